"""Amazon reviews, one category: a file of reviews and one of metadata (`meta_*`), JSON lines, `.gz`
or not.

All editions: of 2014 (lines may be Python dicts) and 2018 (`reviewerID`, `asin`, `unixReviewTime`),
and of 2023 (`user_id`, `parent_asin`, `timestamp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from training.importers.json_files import json_lines, text_of, whole_number
from training.importers.tables import DataError, Source, Tables, in_chunks

_USERS = ("user_id", "reviewerID")
_ITEMS = ("parent_asin", "asin")
_TIMES = ("timestamp", "unixReviewTime")


def read(source: Source) -> Tables:
    """Read the two files of a folder.

    Raises:
        DataError: not exactly one of each.
    """
    rejected = source.rejected
    meta, reviews = _files(source.folder)
    items = [_item(row) for row in json_lines(meta, rejected, literals=True)]
    rows = json_lines(reviews, rejected, literals=True)
    log = ((_first(row, _USERS), _first(row, _ITEMS), _time(row)) for row in rows)
    texts = dict.fromkeys(("item_id", "title", "brand", "category"), pl.String)
    times = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    return Tables(pl.DataFrame(items, schema=texts, orient="row"), in_chunks(log, times), rejected)


def _files(folder: Path) -> tuple[Path, Path]:
    """Find the file of metadata and that of reviews, whatever the case of their names."""
    found = [
        path for path in sorted(folder.iterdir()) if path.is_file() and _is_json(path.name.lower())
    ]
    meta = [path for path in found if path.name.lower().startswith("meta_")]
    reviews = [path for path in found if path not in meta]
    problems = [
        f"expected one file of {what}, found {', '.join(path.name for path in paths) or 'none'}"
        for what, paths in (("metadata (meta_*.json*)", meta), ("reviews (*.json*)", reviews))
        if len(paths) != 1
    ]
    if problems:
        raise DataError(f"{folder}: {'; '.join(problems)}")
    return meta[0], reviews[0]


def _is_json(name: str) -> bool:
    return not name.startswith(".") and name.removesuffix(".gz").endswith((".json", ".jsonl"))


def _item(row: Mapping[str, Any]) -> tuple[str | None, str | None, str | None, str | None]:
    category = row.get("main_category") or row.get("main_cat")
    brand = row.get("brand") or row.get("store")
    return _first(row, _ITEMS), text_of(row.get("title")), text_of(brand), text_of(category)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((text_of(row[name]) for name in names if row.get(name)), None)


def _time(row: Mapping[str, Any]) -> int | None:
    return whole_number(next((row[name] for name in _TIMES if row.get(name) is not None), None))
