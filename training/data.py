"""A data set: the whole catalog, and every user's history as rows of it, oldest first."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.cleaning import clean
from training.config import DataConfig, WhereConfig
from training.importers import read_tables
from training.importers.tables import DataError
from training.rejections import Rejections

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Leave-one-out: a user's last interaction is the test target, the one before it validation's.

    Rows are users. `history(split)` is what is known when the target of that split is asked for.
    """

    train: list[Integers]
    valid: Integers
    test: Integers

    def history(self, split: str) -> list[Integers]:
        """The known history of each user before the target of `split` (`valid` or `test`)."""
        if split == "valid":
            return self.train
        return [np.append(row, last) for row, last in zip(self.train, self.valid, strict=True)]

    def targets(self, split: str) -> Integers:
        """The held-out item of each user."""
        return self.valid if split == "valid" else self.test

    def repeated(self, split: str) -> NDArray[np.bool_]:
        """True where the target already stands in the history."""
        pairs = zip(self.history(split), self.targets(split), strict=True)
        return np.fromiter((target in history for history, target in pairs), np.bool_, len(self.valid))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Catalog and histories; `sequences` holds rows of the catalog, int64, oldest first."""

    name: str
    items: pl.DataFrame
    texts: list[str]
    user_ids: list[str]
    sequences: list[Integers]
    digest: str
    rejected: Rejections

    @property
    def item_ids(self) -> list[str]:
        """Ids of the catalog in row order."""
        return self.items["item_id"].to_list()

    def split(self) -> Split:
        """Hold out each user's last two interactions."""
        return Split(
            [row[:-2] for row in self.sequences],
            np.array([row[-2] for row in self.sequences], np.int64),
            np.array([row[-1] for row in self.sequences], np.int64),
        )


def load_dataset(config: DataConfig) -> Dataset:
    """Read, filter and index a data set.

    Raises:
        DataError: unreadable files, a template that names a missing column, a log that is not of this catalog,
            or no user left.
    """
    tables = read_tables(config.format, config.folder)
    try:
        tables = clean(tables)
    except DataError as error:
        raise DataError(f"{config.folder}: {error}") from error
    items, log, rejected = tables.items, tables.interactions, tables.rejected
    if config.where is not None:
        items = items.filter(_matches(config.where, items))
    texts = item_texts(items, config.text)
    user_ids, sequences = _sequences(items, log, config, rejected)
    return Dataset(config.folder.name, items, texts, user_ids, sequences, _digest(items, texts, sequences), rejected)


def item_texts(items: pl.DataFrame, template: str) -> list[str]:
    """Fill a template such as `{title} ({year})` from the columns; missing values become empty.

    Raises:
        DataError: it names a column that is not there.
    """
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
    missing = sorted(set(names) - set(items.columns))
    if missing:
        raise DataError(f"text {template!r} names {', '.join(missing)}; the items have {', '.join(items.columns)}")
    columns = items.select(_as_text(items, name) for name in dict.fromkeys(names))
    return [template.format(**row) for row in columns.iter_rows(named=True)]


def _matches(where: WhereConfig, items: pl.DataFrame) -> pl.Expr:
    if where.column not in items.columns:
        raise DataError(f"data.where names column {where.column!r}; the items have {', '.join(items.columns)}")
    words = _as_text(items, where.column).str.replace_all(r"[|,;]", " ").str.split(" ")
    chosen = words.list.set_intersection(where.any).list.len() > 0 if where.any else pl.lit(value=True)
    return chosen & (words.list.set_intersection(where.none).list.len() == 0) if where.none else chosen


def _as_text(items: pl.DataFrame, column: str) -> pl.Expr:
    values = pl.col(column)
    if isinstance(items.schema[column], pl.List):
        values = values.cast(pl.List(pl.String)).list.join("|")
    return values.cast(pl.String).fill_null("")


def _sequences(
    items: pl.DataFrame, log: pl.DataFrame, config: DataConfig, rejected: Rejections
) -> tuple[list[str], list[Integers]]:
    rows = items.select("item_id").with_row_index("row")
    ordered = log.join(rows, on="item_id", maintain_order="left").sort("timestamp", maintain_order=True)
    users = ordered.group_by("user_id", maintain_order=True).agg(pl.col("row").cast(pl.Int64)).sort("user_id")
    short = users.filter(pl.col("row").list.len() < config.min_interactions)
    kind = f"user with fewer than {config.min_interactions} interactions"
    rejected.add(kind, short.height, short["user_id"][0] if short.height else "")
    users = users.filter(pl.col("row").list.len() >= config.min_interactions)
    if config.users:
        users = users.head(config.users)
    if users.height == 0:
        raise DataError(f"{config.folder}: no user has {config.min_interactions} interactions with this catalog")
    return users["user_id"].to_list(), [np.asarray(row, np.int64) for row in users["row"].to_list()]


def _digest(items: pl.DataFrame, texts: Sequence[str], sequences: Sequence[Integers]) -> str:
    total = hashlib.sha256()
    for item_id, text in zip(items["item_id"], texts, strict=True):
        total.update(f"{item_id}\0{text}\n".encode())
    for row in sequences:
        total.update(row.tobytes() + b"\n")
    return total.hexdigest()
