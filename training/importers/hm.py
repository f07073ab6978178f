"""H&M Personalized Fashion as Kaggle packs it: `articles.csv`, `transactions_train.csv` and the folder `images`.

An article's picture is `images/010/0108775015.jpg`; the column `image` names it below `images`. An article that is
bought several times on a day counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.importers.csv_files import csv_chunks, csv_frame
from training.importers.tables import DataError, Tables
from training.rejections import Rejections

_ARTICLES = {
    "article_id": "item_id",
    "prod_name": "title",
    "product_type_name": "product_type",
    "colour_group_name": "colour",
    "department_name": "department",
    "detail_desc": "description",
}


def read(folder: Path) -> Tables:
    """Read the two files; pictures are named whether or not they are there.

    Raises:
        DataError: a file or a column is missing.
    """
    rejected = Rejections()
    items = csv_frame(folder / "articles.csv", _ARTICLES, rejected)
    number = pl.col("item_id").str.zfill(10)  # some tools drop the zero in front
    image = pl.concat_str(number.str.head(3), pl.lit("/"), number, pl.lit(".jpg")).alias("image")
    names = {"customer_id": "user_id", "article_id": "item_id", "t_dat": "timestamp"}
    log = csv_chunks(folder / "transactions_train.csv", names, rejected)
    return Tables(items.with_columns(number, image), _once_a_day(chunk.with_columns(number) for chunk in log), rejected)


def _once_a_day(log: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Drop what recurs on a day: the log is in the order of days, so that only a chunk's last one can go on.

    Raises:
        DataError: the days are not in order.
    """
    open_day = pl.DataFrame()
    for chunk in log:
        rows = pl.concat([open_day, chunk]) if open_day.height else chunk
        if not rows["timestamp"].is_sorted():
            raise DataError("transactions_train.csv: the days are not in order; sort the rows by t_dat")
        rows = rows.unique(maintain_order=True)
        last = pl.col("timestamp") == pl.col("timestamp").last()
        yield rows.filter(last.not_())
        open_day = rows.filter(last)
    yield open_day
