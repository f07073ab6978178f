"""MovieLens as GroupLens packs it:
100K (`u.data`), 1M and 10M (`ratings.dat`), 20M and later (`ratings.csv`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.importers.csv_files import csv_chunks, csv_frame
from training.importers.tables import (
    LATIN1,
    LOG_COLUMNS,
    DataError,
    Source,
    Tables,
    chunks_of,
    gzip_hint,
    rows_of,
    there,
)
from training.rejections import Rejections

_RATINGS = ("user_id", "item_id", "rating", "timestamp")
_GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


def read(source: Source) -> Tables:
    """Read a folder of any of the releases.

    Raises:
        DataError: it holds none of them.
    """
    folder = source.folder
    rejected = source.rejected
    for name, of in (("u.data", _hundred), ("ratings.dat", _million), ("ratings.csv", _later)):
        if (folder / name).is_file():
            items, log = of(folder, rejected)
            time = pl.col("timestamp").cast(pl.Int64, strict=False)
            return Tables(
                items, (chunk.with_columns(time).select(LOG_COLUMNS) for chunk in log), rejected
            )
    hint = "".join(gzip_hint(folder, name) for name in ("u.data", "ratings.dat", "ratings.csv"))
    raise DataError(
        f"{folder}: no u.data, ratings.dat or ratings.csv: this is no MovieLens release{hint}"
    )


def _hundred(folder: Path, rejected: Rejections) -> tuple[pl.DataFrame, Iterator[pl.DataFrame]]:
    names = ("item_id", "title", "released", "video", "url", *_GENRES)
    catalog = there(folder / "u.item")
    items = rows_of(catalog, names, rejected, "|", LATIN1)
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in _GENRES]
    genres = pl.concat_str(flags, separator="|", ignore_nulls=True).alias("genres")
    return items.select("item_id", "title", genres), chunks_of(
        folder / "u.data", _RATINGS, rejected
    )


def _million(folder: Path, rejected: Rejections) -> tuple[pl.DataFrame, Iterator[pl.DataFrame]]:
    catalog = there(folder / "movies.dat")  # of 1M in Latin-1, of 10M in UTF-8
    items = rows_of(catalog, ("item_id", "title", "genres"), rejected, "::", LATIN1)
    return items, chunks_of(folder / "ratings.dat", _RATINGS, rejected, "::")


def _later(folder: Path, rejected: Rejections) -> tuple[pl.DataFrame, Iterator[pl.DataFrame]]:
    items = csv_frame(
        folder / "movies.csv",
        {"movieId": "item_id", "title": "title", "genres": "genres"},
        rejected,
    )
    names = {"userId": "user_id", "movieId": "item_id", "timestamp": "timestamp"}
    return items, csv_chunks(folder / "ratings.csv", names, rejected)
