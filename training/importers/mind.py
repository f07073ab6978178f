"""MIND: `news.tsv` and `behaviors.tsv`, of one split or of several in folders of their own.

A user's history stands in each impression, without times: it counts as one second apart, before the
first impression. Clicks of an impression (`N123-1`) follow at its time.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from training.importers.tables import DataError, Source, Tables, gzip_hint, rows_of

_NEWS = ("item_id", "category", "subcategory", "title", "abstract")
_BEHAVIORS = ("impression", "user_id", "time", "history", "shown")
_TIME = "%m/%d/%Y %I:%M:%S %p"


def read(source: Source) -> Tables:
    """Read all splits below a folder; an item that stands in several alike counts once.

    Raises:
        DataError: one of the two files is nowhere below it.
    """
    folder = source.folder
    rejected = source.rejected
    news = pl.concat([rows_of(path, _NEWS, rejected) for path in _found(folder, "news.tsv")])
    seen = pl.concat(
        [rows_of(path, _BEHAVIORS, rejected) for path in _found(folder, "behaviors.tsv")]
    )
    seen = seen.with_columns(pl.col("time").str.to_datetime(_TIME, strict=False).dt.epoch("s"))
    log = pl.concat([_histories(seen), _clicks(seen)]).sort("timestamp", maintain_order=True)
    return Tables(news.unique(maintain_order=True), log, rejected)


def _histories(seen: pl.DataFrame) -> pl.DataFrame:
    """One row an item of each user's longest history."""
    first = seen.group_by("user_id", maintain_order=True).agg(
        pl.col("time").min(),
        pl.col("history").sort_by(pl.col("history").str.len_chars(), descending=True).first(),
    )
    items = first.with_columns(pl.col("history").str.split(" ")).with_columns(
        (pl.col("time") - pl.col("history").list.len()).alias("start")
    )
    rows = items.with_columns(pl.int_ranges(pl.col("history").list.len()).alias("place")).explode(
        "history", "place"
    )
    rows = rows.filter(pl.col("history").is_not_null() & (pl.col("history") != ""))
    return rows.select("user_id", item_id="history", timestamp=pl.col("start") + pl.col("place"))


def _clicks(seen: pl.DataFrame) -> pl.DataFrame:
    rows = seen.select("user_id", timestamp="time", item_id=pl.col("shown").str.split(" ")).explode(
        "item_id"
    )
    clicked = rows.filter(pl.col("item_id").str.ends_with("-1"))
    return clicked.select("user_id", pl.col("item_id").str.head(-2), "timestamp")


def _found(folder: Path, name: str) -> list[Path]:
    paths = sorted(folder.rglob(name))
    if not paths:
        hint = gzip_hint(folder, name)
        raise DataError(
            f"{folder}: no {name} in it or below: unpack MINDsmall_train.zip and the others"
            f" there{hint}"
        )
    return paths
