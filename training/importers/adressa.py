"""Adressa: files of one JSON event a line (`userId`, `id`, `title`, `time`), one file a day; every
file is read.

Visits of pages that are no article have no `id`: they are counted. An article's title is the first
that an event names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from training.importers.json_files import json_lines, text_of, whole_number
from training.importers.tables import DataError, Source, Tables, in_chunks
from training.rejections import Rejections


def read(source: Source) -> Tables:
    """Read every file of a folder, in the order of their names.

    Raises:
        DataError: there is none.
    """
    folder = source.folder
    rejected = source.rejected
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    if not paths:
        raise DataError(f"{folder}: no files of events")
    titles: dict[str, str] = {}
    for row in _events(paths, rejected):
        item = str(text_of(row["id"]))
        titles[item] = titles.get(item) or text_of(row.get("title")) or ""
    log = (
        (text_of(row.get("userId")), text_of(row["id"]), whole_number(row.get("time")))
        for row in _events(paths, Rejections())
    )
    return Tables(
        pl.DataFrame(
            list(titles.items()), schema={"item_id": pl.String, "title": pl.String}, orient="row"
        ),
        in_chunks(log, {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}),
        rejected,
    )


def _events(paths: list[Path], rejected: Rejections) -> Iterator[dict[str, Any]]:
    """Yield the visits of articles; the files are read twice, once for the titles."""
    for path in paths:
        for row in json_lines(path, rejected, name="event"):
            if text_of(row.get("id")):
                yield row
            else:
                rejected.note("event of a page that is no article", 1, row.get("url", ""))
