"""H&M Personalized Fashion as Kaggle packs it: `articles.csv`, `transactions_train.csv` and the
folder `images`.

An article's picture is `images/010/0108775015.jpg`; the column `image` names it below `images`. An
article that is bought several times on a day counts once.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from training.importers.csv_files import csv_chunks, csv_frame
from training.importers.tables import DataError, Source, Tables
from training.rejections import Rejections

_ARTICLES = {
    "article_id": "item_id",
    "prod_name": "title",
    "product_type_name": "product_type",
    "colour_group_name": "colour",
    "department_name": "department",
    "detail_desc": "description",
}


def read(source: Source) -> Tables:
    """Read the two files; pictures are named whether or not they are there.

    Raises:
        DataError: a file or a column is missing.
    """
    items = csv_frame(source.folder / "articles.csv", _ARTICLES, source.rejected)
    number = pl.col("item_id").str.zfill(10)  # some tools drop the zero in front
    image = pl.concat_str(number.str.head(3), pl.lit("/"), number, pl.lit(".jpg")).alias("image")
    names = {"customer_id": "user_id", "article_id": "item_id", "t_dat": "timestamp"}
    log = csv_chunks(source.folder / "transactions_train.csv", names, source.rejected)
    once = _once_a_day((chunk.with_columns(number) for chunk in log), source.rejected)
    return Tables(items.with_columns(number, image), once, source.rejected)


def _once_a_day(log: Iterator[pl.DataFrame], rejected: Rejections) -> Iterator[pl.DataFrame]:
    """Drop and count what recurs on a day: the log is in the order of days, so that only a chunk's
    last one can go on.

    Raises:
        DataError: the days are not in order.
    """
    open_day = pl.DataFrame()
    for chunk in log:
        rows = pl.concat([open_day, chunk]) if open_day.height else chunk
        if not rows["timestamp"].is_sorted():
            raise DataError(
                "transactions_train.csv: the days are not in order; sort the rows by t_dat"
            )
        once = rows.unique(maintain_order=True)
        example = (
            rows.filter(rows.is_duplicated())["item_id"].first()
            if once.height < rows.height
            else ""
        )
        rejected.note(
            "article that is bought again on the same day", rows.height - once.height, example
        )
        last = pl.col("timestamp").eq_missing(pl.col("timestamp").last())
        yield once.filter(last.not_())
        open_day = once.filter(last)
    yield open_day
