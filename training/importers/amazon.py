"""Amazon reviews, one category: a file of reviews and one of metadata (`meta_*`), JSON lines, `.gz` or not.

Both editions: of 2018 (`reviewerID`, `asin`, `unixReviewTime`) and of 2023 (`user_id`, `parent_asin`, `timestamp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from training.importers.tables import Tables, in_chunks, json_lines, one_file
from training.rejections import Rejections

_USERS, _ITEMS, _TIMES = ("user_id", "reviewerID"), ("parent_asin", "asin"), ("timestamp", "unixReviewTime")


def read(folder: Path) -> Tables:
    """Read the two files of a folder.

    Raises:
        DataError: not exactly one of each.
    """
    rejected = Rejections()
    meta = one_file(folder, "meta_*.json*", "file of metadata")
    reviews = one_file(folder, "[!m]*.json*", "file of reviews")
    items = [_item(row) for row in json_lines(meta, rejected)]
    log = ((_first(row, _USERS), _first(row, _ITEMS), _time(row)) for row in json_lines(reviews, rejected))
    texts = dict.fromkeys(("item_id", "title", "brand", "category"), pl.String)
    times = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    return Tables(pl.DataFrame(items, schema=texts, orient="row"), in_chunks(log, times), rejected)


def _item(row: Mapping[str, Any]) -> tuple[str | None, str | None, str | None, str | None]:
    category = row.get("main_category") or row.get("main_cat")
    return _first(row, _ITEMS), _text(row.get("title")), _text(row.get("brand") or row.get("store")), _text(category)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((_text(row[name]) for name in names if row.get(name)), None)


def _text(value: object) -> str | None:
    return " ".join(str(value).split()) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _time(row: Mapping[str, Any]) -> int | None:
    value = next((row[name] for name in _TIMES if row.get(name) is not None), None)
    return int(value) if isinstance(value, int | float) else None
