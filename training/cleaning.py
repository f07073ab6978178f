"""Dropping, and counting, what no run could use: rows without ids, titles or times, strange items, repeated ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
    return Tables(items, _clean_log(tables.chunks(), items, rejected), rejected)


def _clean_items(items: pl.DataFrame, rejected: Rejections) -> pl.DataFrame:
    items = items.with_columns(pl.col("title").fill_null("").str.strip_chars())
    items = _without(items, _blank("item_id"), "item without an id", "title", rejected)
    nameless = _blank("title") & (_blank("image") if "image" in items.columns else pl.lit(value=True))
    items = _without(items, nameless, "item without a title", "item_id", rejected)
    again = pl.col("item_id").is_first_distinct().not_()
    return _without(items, again, "item id that occurred before", "item_id", rejected)


def _clean_log(chunks: Iterator[pl.DataFrame], items: pl.DataFrame, rejected: Rejections) -> Iterator[pl.DataFrame]:
    known, total, strangers, example = items["item_id"].implode(), 0, 0, ""
    times: _Times | None = None
    for chunk in chunks:
        times = times or (_times(chunk["timestamp"]) if chunk.height or chunk["timestamp"].dtype != pl.String else None)
        if times is None:
            continue
        log = chunk.with_columns(times(chunk["timestamp"]))
        log = _without(log, _blank("user_id"), "interaction without a user", "item_id", rejected)
        log = _without(log, _blank("item_id"), "interaction without an item", "user_id", rejected)
        log = _without(
            log, pl.col("timestamp").is_null(), "interaction without a usable timestamp", "user_id", rejected
        )
        strange = log.filter(pl.col("item_id").is_in(known).not_())
        total, strangers = total + log.height, strangers + strange.height
        example = example or (strange["item_id"][0] if strange.height else "")
        yield _without(
            log,
            pl.col("item_id").is_in(known).not_(),
            "interaction with an item that the catalog lacks",
            "item_id",
            rejected,
        )
    if strangers > MOSTLY * total:
        raise DataError(
            f"{strangers} of {total} interactions name items that the catalog lacks (for example {example}): "
            "is this the catalog of this log?"
        )


_Times = Callable[[pl.Series], pl.Series]
"""Makes times that sort as times; what is none becomes null."""


def _times(given: pl.Series) -> _Times:
    """Choose how to read a log's times by its first chunk.

    Raises:
        DataError: nobody can read them.
    """
    kind = given.dtype
    if kind.is_float():
        return _numbers
    if kind.is_integer() or kind.is_decimal() or kind in (pl.Datetime, pl.Date):
        return lambda times: times
    if kind != pl.String:
        raise DataError(f"timestamp has the type {kind}: expected numbers, dates, or text of either")
    best = min((_numbers, _dates), key=lambda read: read(given).null_count())
    if given.len() and best(given).null_count() == given.len():
        raise DataError(f"timestamp is text such as {given[0]!r}: expected numbers or ISO dates (2024-05-01 12:30:00)")
    return best


def _numbers(times: pl.Series) -> pl.Series:
    return times.cast(pl.Float64, strict=False).replace([float("inf"), float("-inf"), float("nan")], None)


def _dates(texts: pl.Series) -> pl.Series:
    try:
        return (
            texts.str.to_datetime(strict=False, time_unit="us").dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        )
    except ComputeError:  # no form of a date was recognised
        return pl.Series(texts.name, [None] * texts.len(), pl.Datetime("us"))


def _blank(column: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.strip_chars() == ""


def _without(frame: pl.DataFrame, bad: pl.Expr, kind: str, shown: str, rejected: Rejections) -> pl.DataFrame:
    lost = frame.filter(bad)
    rejected.add(kind, lost.height, lost[shown][0] if lost.height else "")
    return frame.filter(bad.not_())
