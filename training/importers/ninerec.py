"""NineRec, one of its data sets: `*_item.csv`, `*_pair.csv`, `*_behaviour.tsv` and the covers
`*_cover/ITEM.jpg`.

The CSV files have no header. `title` is the text as published, in Chinese, `title_en` its
translation. The pairs of QB and TN have no times: there the sequences `user<TAB>item item …` give
the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.importers.adapter4rec import sequences
from training.importers.csv_files import headless_chunks
from training.importers.tables import Source, Tables, one_file
from training.rejections import Rejections


def read(source: Source) -> Tables:
    """Read items, and pairs with their times or else sequences.

    Raises:
        DataError: not exactly one file of items, or neither pairs with times nor one file of
            sequences.
    """
    folder = source.folder
    rejected = source.rejected
    names = ("item_id", "title", "title_en")
    items = pl.concat(
        list(headless_chunks(one_file(folder, "*_item.csv", "file of items"), names, rejected))
    )
    timed = [path for path in folder.glob("*_pair.csv") if _has_times(path)]
    if len(timed) == 1:
        log = _pairs(timed[0], items, rejected)
    else:
        log = sequences(
            one_file(folder, "*_behaviour.tsv", "*_pair.csv with times, or file of sequences"),
            rejected,
        )
    return Tables(items.with_columns((pl.col("item_id") + ".jpg").alias("image")), log, rejected)


def _has_times(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().count(",") > 1


def _pairs(path: Path, items: pl.DataFrame, rejected: Rejections) -> Iterator[pl.DataFrame]:
    """Read rows item, user, time; where the catalog knows the second column better, it is the
    item's.

    The publisher's page says user first, the code beside it reads the item first.
    """
    known = items["item_id"].implode()
    swapped = None
    for chunk in headless_chunks(path, ("item_id", "user_id", "timestamp"), rejected):
        if swapped is None:
            first, second = (chunk[name].is_in(known).sum() for name in ("item_id", "user_id"))
            swapped = second > first
        yield chunk.rename({"item_id": "user_id", "user_id": "item_id"}) if swapped else chunk
