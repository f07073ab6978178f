"""Dropping, and counting, what no run could use: rows without ids, titles or times, strange items, repeated ids."""

from __future__ import annotations

import polars as pl
from polars.exceptions import ComputeError

from training.importers.tables import DataError, Tables
from training.rejections import Rejections

MOSTLY = 0.5


def clean(tables: Tables) -> Tables:
    """Keep items with an id and a title or an image, and interactions with a user, an item of these and a time.

    Timestamps become numbers or dates: text is never compared as text. What is dropped is counted in `rejected`.

    Raises:
        DataError: timestamps that nobody can read, or a log most of whose items the catalog lacks.
    """
    rejected = tables.rejected
    items = _clean_items(tables.items, rejected)
    return Tables(items, _known_only(_clean_log(tables.interactions, rejected), items, rejected), rejected)


def _clean_items(items: pl.DataFrame, rejected: Rejections) -> pl.DataFrame:
    items = items.with_columns(pl.col("title").fill_null("").str.strip_chars())
    items = _without(items, _blank("item_id"), "item without an id", "title", rejected)
    nameless = _blank("title") & (_blank("image") if "image" in items.columns else pl.lit(value=True))
    items = _without(items, nameless, "item without a title", "item_id", rejected)
    again = pl.col("item_id").is_first_distinct().not_()
    return _without(items, again, "item id that occurred before", "item_id", rejected)


def _clean_log(log: pl.DataFrame, rejected: Rejections) -> pl.DataFrame:
    log = log.with_columns(_times(log["timestamp"]))
    log = _without(log, _blank("user_id"), "interaction without a user", "item_id", rejected)
    log = _without(log, _blank("item_id"), "interaction without an item", "user_id", rejected)
    return _without(log, pl.col("timestamp").is_null(), "interaction without a usable timestamp", "user_id", rejected)


def _known_only(log: pl.DataFrame, items: pl.DataFrame, rejected: Rejections) -> pl.DataFrame:
    strange = pl.col("item_id").is_in(items["item_id"].implode()).not_()
    count = log.select(strange.sum()).item()
    if count > MOSTLY * log.height:
        example = log.filter(strange)["item_id"][0]
        raise DataError(
            f"{count} of {log.height} interactions name items that the catalog lacks (for example {example}): "
            "is this the catalog of this log?"
        )
    return _without(log, strange, "interaction with an item that the catalog lacks", "item_id", rejected)


def _times(given: pl.Series) -> pl.Series:
    """Make times that sort as times; what is none becomes null."""
    if given.dtype.is_float():
        return given.replace([float("inf"), float("-inf"), float("nan")], None)
    if given.dtype.is_integer() or given.dtype.is_decimal() or given.dtype in (pl.Datetime, pl.Date):
        return given
    if given.dtype != pl.String:
        raise DataError(f"timestamp has the type {given.dtype}: expected numbers, dates, or text of either")
    read = [_times(given.cast(pl.Float64, strict=False)), _dates(given)]
    best = min(read, key=pl.Series.null_count)
    if given.len() and best.null_count() == given.len():
        raise DataError(f"timestamp is text such as {given[0]!r}: expected numbers or ISO dates (2024-05-01 12:30:00)")
    return best


def _dates(texts: pl.Series) -> pl.Series:
    try:
        return texts.str.to_datetime(strict=False)
    except ComputeError:  # no form of a date was recognised
        return pl.Series(texts.name, [None] * texts.len(), pl.Datetime)


def _blank(column: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.strip_chars() == ""


def _without(frame: pl.DataFrame, bad: pl.Expr, kind: str, shown: str, rejected: Rejections) -> pl.DataFrame:
    lost = frame.filter(bad)
    rejected.add(kind, lost.height, lost[shown][0] if lost.height else "")
    return frame.filter(bad.not_())
