"""RecBole atomic files: `*.inter` and `*.item`, tab-separated, with a typed header (`item_id:token`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.importers.tables import DataError, Tables, in_chunks, lines_of, one_file, to_tables
from training.rejections import Rejections


def read(folder: Path) -> Tables:
    """Read the two files of a folder.

    Raises:
        DataError: not exactly one of each, or a column is missing.
    """
    rejected = Rejections()
    items = one_file(folder, "*.item", "item file")
    log = one_file(folder, "*.inter", "interaction file")
    catalog = pl.concat(list(_chunks(items, _names(items), rejected)))
    names = _names(log)
    return to_tables(folder, catalog, names, _chunks(log, names, rejected), rejected)


def _names(path: Path) -> list[str]:
    names = [field.partition(":")[0] for field in next(lines_of(path), "").split("\t")]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a name stands twice in the header: {', '.join(names)}")
    return names


def _chunks(path: Path, names: list[str], rejected: Rejections) -> Iterator[pl.DataFrame]:
    def rows() -> Iterator[list[str]]:
        for number, line in enumerate(lines_of(path), 1):
            fields = line.split("\t")
            if number > 1 and len(fields) == len(names):
                yield fields
            elif number > 1:
                rejected.add(f"{path.name}: {len(names)} fields expected", 1, f"line {number}: {line}")

    return in_chunks(rows(), dict.fromkeys(names, pl.String))
