"""Data sets of video covers: MicroLens (`*_pairs.csv`, `*_titles.csv`) and PixelRec (interactions
and item features).

A cover is `ITEM.jpg`; the column `image` names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.importers.csv_files import csv_chunks, csv_frame
from training.importers.csv_rows import records
from training.importers.tables import DataError, Source, Tables, gzip_hint, lines_of, one_file
from training.rejections import Rejections

_LOG = ("user_id", "item_id", "timestamp")
_MORE = ("description",)
_TITLES = {"item": "item_id", "title": "title"}
_TAGS = {"item_id": "item_id", "title": "title", "tag": "tag"}


def read_microlens(source: Source) -> Tables:
    """Read pairs with their times, and titles.

    Raises:
        DataError: not exactly one of each.
    """
    folder = source.folder
    rejected = source.rejected
    titles = one_file(folder, "*title*.csv", "file of titles")
    pairs = one_file(folder, "*pairs.csv", "file of pairs")
    log = csv_chunks(
        pairs, {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}, rejected
    )
    named = set(_TITLES) <= set(_header(titles))
    items = csv_frame(titles, _TITLES, rejected) if named else _by_line(titles, rejected)
    return _with_covers(items, log, rejected)


def _by_line(path: Path, rejected: Rejections) -> pl.DataFrame:
    """Read `item,title` lines as the larger releases have them:
    no header, and quotes that do not match.
    """
    rows = []
    for number, line in enumerate(lines_of(path), 1):
        item, comma, title = line.partition(",")
        if comma and item.strip():
            rows.append((item.strip(), title.strip().strip('"')))
        elif line.strip():
            rejected.add(f"{path.name}: no item and title", 1, f"line {number}: {line}")
    return pl.DataFrame(rows, schema={"item_id": pl.String, "title": pl.String}, orient="row")


def read_pixelrec(source: Source) -> Tables:
    """Read interactions and item features: of all CSV files here or below, the ones with these
    columns.

    Raises:
        DataError: not exactly one of each.
    """
    folder = source.folder
    rejected = source.rejected
    headers = {path: _header(path) for path in sorted(folder.rglob("*.csv"))}
    logs = [path for path, header in headers.items() if set(_LOG) <= set(header)]
    infos = [path for path, header in headers.items() if {"item_id", "title", "tag"} <= set(header)]
    if len(logs) != 1 or len(infos) != 1:
        names = ", ".join(path.name for path in headers) or "no CSV file"
        raise DataError(
            f"{folder}: expected one file item_id,user_id,timestamp and one of item features, found"
            f" {names}{gzip_hint(folder, '*.csv')}"
        )
    log = csv_chunks(logs[0], {name: name for name in _LOG}, rejected)
    more = [name for name in _MORE if name in headers[infos[0]]]
    items = csv_frame(infos[0], _TAGS | dict(zip(more, more, strict=True)), rejected)
    return _with_covers(items, log, rejected)


def _header(path: Path) -> list[str]:
    """Return the first row, whether or not it is a header."""
    _, _, fields = next(records(path), (0, "", None))
    return [name.strip() for name in fields or ()]


def _with_covers(items: pl.DataFrame, log: Iterator[pl.DataFrame], rejected: Rejections) -> Tables:
    return Tables(items.with_columns((pl.col("item_id") + ".jpg").alias("image")), log, rejected)
