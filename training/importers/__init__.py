"""Importers: one small file for each form in which people download interaction logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.importers import (
    adapter4rec,
    adressa,
    amazon,
    canonical,
    covers,
    csv_files,
    hm,
    mind,
    movielens,
    ninerec,
    recbole,
)
from training.importers.tables import DataError, Tables

READERS: dict[str, Callable[[Path], Tables]] = {
    "canonical": canonical.read,
    "csv": csv_files.read,
    "adapter4rec": adapter4rec.read,
    "recbole": recbole.read,
    "mind": mind.read,
    "amazon": amazon.read,
    "movielens": movielens.read,
    "adressa": adressa.read,
    "hm": hm.read,
    "microlens": covers.read_microlens,
    "pixelrec": covers.read_pixelrec,
    "ninerec": ninerec.read,
}


def read_tables(form: str, folder: Path) -> Tables:
    """Read a log in one of the known forms.

    Raises:
        DataError: an unknown form, no such folder, or files that are not of that form.
    """
    if form not in READERS:
        raise DataError(f"format {form!r}: expected one of {', '.join(READERS)}")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    return READERS[form](folder)
