"""RecBole atomic files: `*.inter` and `*.item`, tab-separated, with a typed header (`item_id:token`)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from training.importers.tables import DataError, Tables, lines_of, one_file, to_tables
from training.rejections import Rejections


def read(folder: Path) -> Tables:
    """Read the two files of a folder.

    Raises:
        DataError: not exactly one of each, or a column is missing.
    """
    rejected = Rejections()
    items = _read(one_file(folder, "*.item", "item file"), rejected)
    log = _read(one_file(folder, "*.inter", "interaction file"), rejected)
    return to_tables(folder, items, log, rejected)


def _read(path: Path, rejected: Rejections) -> pl.DataFrame:
    header, *lines = lines_of(path)
    names = [field.partition(":")[0] for field in header.split("\t")]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a name stands twice in the header: {', '.join(names)}")
    rows = []
    for number, line in enumerate(lines, 2):
        fields = line.split("\t")
        if len(fields) == len(names):
            rows.append(fields)
        else:
            rejected.add(f"{path.name}: {len(names)} fields expected", 1, f"line {number}: {line}")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
