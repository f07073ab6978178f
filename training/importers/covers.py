"""Data sets of video covers: MicroLens (`*_pairs.csv`, `*_titles.csv`) and PixelRec (interactions and item features).

A cover is `ITEM.jpg`; the column `image` names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.importers.csv_files import csv_chunks, csv_frame
from training.importers.tables import DataError, Tables, one_file
from training.rejections import Rejections

_TITLES, _TAGS = {"item": "item_id", "title": "title"}, {"item_id": "item_id", "title": "title", "tag": "tag"}


def read_microlens(folder: Path) -> Tables:
    """Read pairs with their times, and titles.

    Raises:
        DataError: not exactly one of each.
    """
    rejected = Rejections()
    titles, pairs = one_file(folder, "*titles.csv", "file of titles"), one_file(folder, "*pairs.csv", "file of pairs")
    log = csv_chunks(pairs, {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}, rejected)
    return _with_covers(csv_frame(titles, _TITLES, rejected), log, rejected)


def read_pixelrec(folder: Path) -> Tables:
    """Read interactions and item features: of all CSV files here or below, the ones with these columns.

    Raises:
        DataError: not exactly one of each.
    """
    rejected = Rejections()
    headers = {path: _header(path) for path in sorted(folder.rglob("*.csv"))}
    logs = [path for path, header in headers.items() if header[:3] == ["item_id", "user_id", "timestamp"]]
    infos = [path for path, header in headers.items() if {"item_id", "title", "tag"} <= set(header)]
    if len(logs) != 1 or len(infos) != 1:
        names = ", ".join(path.name for path in headers) or "no CSV file"
        raise DataError(
            f"{folder}: expected one file item_id,user_id,timestamp and one of item features, found {names}"
        )
    log = csv_chunks(logs[0], {name: name for name in ("user_id", "item_id", "timestamp")}, rejected)
    return _with_covers(csv_frame(infos[0], _TAGS, rejected), log, rejected)


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip().split(",")


def _with_covers(items: pl.DataFrame, log: Iterator[pl.DataFrame], rejected: Rejections) -> Tables:
    return Tables(items.with_columns((pl.col("item_id") + ".jpg").alias("image")), log, rejected)
