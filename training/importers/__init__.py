"""Importers: one small file for each form in which people download interaction logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from training.importers.tables import DataError, Source, Tables
from training.rejections import NAMELESS, OF_NAMELESS, Rejections

LEFT_OUT = {NAMELESS, OF_NAMELESS}
"""What the public data sets are known to contain:
of them it is a note, of a person's own log it is rejected.
"""

READERS: dict[str, Callable[[Source], Tables]] = {
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


MAPPED = ("canonical", "csv", "recbole")
"""Forms whose columns a person names; those of the public data sets are their publishers'."""


def read_tables(
    form: str,
    folder: Path,
    columns: Mapping[str, str] | None = None,
    rejected: Rejections | None = None,
) -> Tables:
    """Read a log in one of the known forms.

    Args:
        form: its name in `READERS`.
        folder: where the files are.
        columns: our name of a column to its name in the files, where they differ.
        rejected: what cannot be used is counted here; in the result's own counts without it.

    Raises:
        DataError: an unknown form, no such folder, or files that are not of that form.
    """
    if form not in READERS:
        raise DataError(f"format {form!r}: expected one of {', '.join(READERS)}")
    if columns and form not in MAPPED:
        raise DataError(
            f"columns are given for {', '.join(MAPPED)}; the format {form} has its publisher's"
        )
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    source = Source(folder, columns or {}, Rejections() if rejected is None else rejected)
    if form not in MAPPED:
        source.rejected.noted |= LEFT_OUT
    return READERS[form](source)
