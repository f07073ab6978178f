"""Adressa: files of one JSON event a line (`userId`, `id`, `title`, `time`), one file a day; every file is read.

Visits of pages that are no article have no `id`: they are counted as rejected. An article's title is the first that an
event names.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from training.importers.tables import DataError, Tables, json_lines
from training.rejections import Rejections


def read(folder: Path) -> Tables:
    """Read every file of a folder, in the order of their names.

    Raises:
        DataError: there is none.
    """
    rejected = Rejections()
    titles: dict[str, str] = {}
    log: list[tuple[str | None, str, int | None]] = []
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    if not paths:
        raise DataError(f"{folder}: no files of events")
    for path in paths:
        for row in json_lines(path, rejected):
            item, time = row.get("id"), row.get("time")
            if not isinstance(item, str) or not item:
                rejected.add("event of a page that is no article", 1, row.get("url", ""))
                continue
            if isinstance(row.get("title"), str) and row["title"].strip():
                titles.setdefault(item, row["title"])
            log.append((row.get("userId"), item, int(time) if isinstance(time, int | float) else None))
    ids = dict.fromkeys(item for _, item, _ in log)
    items = [(item, titles.get(item, "")) for item in ids]
    return Tables(
        pl.DataFrame(items, schema={"item_id": pl.String, "title": pl.String}, orient="row"),
        pl.DataFrame(log, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row"),
        rejected,
    )
