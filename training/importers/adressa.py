"""Adressa: files of one JSON event a line (`userId`, `id`, `title`, `time`), one file a day; every file is read.

Visits of pages that are no article have no `id`: they are counted as rejected. An article's title is the first that an
event names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from training.importers.tables import DataError, Tables, in_chunks, json_lines
from training.rejections import Rejections


def read(folder: Path) -> Tables:
    """Read every file of a folder, in the order of their names.

    Raises:
        DataError: there is none.
    """
    rejected = Rejections()
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    if not paths:
        raise DataError(f"{folder}: no files of events")
    titles: dict[str, str] = {}
    for row in _events(paths, rejected):
        title = row.get("title")
        if not titles.get(row["id"]):
            titles[row["id"]] = title.strip() if isinstance(title, str) else ""
    log = ((row.get("userId"), row["id"], _time(row)) for row in _events(paths, Rejections()))
    return Tables(
        pl.DataFrame(list(titles.items()), schema={"item_id": pl.String, "title": pl.String}, orient="row"),
        in_chunks(log, {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}),
        rejected,
    )


def _events(paths: list[Path], rejected: Rejections) -> Iterator[dict[str, Any]]:
    """Yield the visits of articles; the files are read twice, once for the titles."""
    for path in paths:
        for row in json_lines(path, rejected):
            if isinstance(row.get("id"), str) and row["id"]:
                yield row
            else:
                rejected.add("event of a page that is no article", 1, row.get("url", ""))


def _time(row: dict[str, Any]) -> int | None:
    time = row.get("time")
    return int(time) if isinstance(time, int | float) else None
