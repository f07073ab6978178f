"""RecBole atomic files: `*.inter` and `*.item`, tab-separated, with a typed header (`item_id:token`)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from training.importers.tables import DataError, Tables, lines_of, one_file
from training.rejections import Rejections

_TITLES = ("title", "movie_title", "name", "item_name")


def read(folder: Path) -> Tables:
    """Read the two files of a folder; the item's title is the column `title`, `movie_title`, `name` or `item_name`.

    Raises:
        DataError: not exactly one of each, or a column is missing.
    """
    rejected = Rejections()
    items = _read(one_file(folder, "*.item", "item file"), rejected)
    log = _read(one_file(folder, "*.inter", "interaction file"), rejected)
    title = next((name for name in _TITLES if name in items.columns), None)
    if title is None or "item_id" not in items.columns:
        raise DataError(f"{folder}: the item file has {', '.join(items.columns)}; expected item_id and a title")
    missing = [name for name in ("user_id", "item_id") if name not in log.columns]
    if missing:
        raise DataError(f"{folder}: the interaction file lacks {', '.join(missing)}")
    if "timestamp" not in log.columns:
        log = log.with_row_index("timestamp")
    return Tables(items.rename({title: "title"}), log.select("user_id", "item_id", "timestamp"), rejected)


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
