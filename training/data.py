"""A data set: the whole catalog, and every user's history as rows of it, oldest first."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.cleaning import MOSTLY, REPEATED, clean
from training.config import DataConfig, WhereConfig
from training.importers import read_tables
from training.importers.tables import DataError, counted
from training.pictures import Pictures
from training.rejections import NAMELESS, Rejections
from transrec.arrays import Integers
from transrec.content import BETWEEN, Content, Picture, joined
from transrec.images import ImageError, check


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
        return np.fromiter(
            (target in history for history, target in pairs), np.bool_, len(self.valid)
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """Catalog and histories; `sequences` holds rows of the catalog, int64, oldest first."""

    name: str
    items: pl.DataFrame
    contents: list[Content]
    user_ids: list[str]
    sequences: list[Integers]
    digest: str
    rejected: Rejections

    @property
    def texts(self) -> list[str]:
        """What is read as text, empty where nothing is."""
        return [content.text for content in self.contents]

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
        DataError: unreadable files, a template that names a missing column, a log that is not of
            this catalog, or no user left.
    """
    rejected = Rejections()
    with counted(config.folder, rejected):
        tables = read_tables(config.format, config.folder, config.columns, rejected)
        tables = clean(tables, config.time_format, keep_duplicates=config.keep_duplicates)
        items = tables.items
        if config.where is not None:
            items = items.filter(_matches(config.where, items))
        items, contents = _contents(items, config, rejected)
        user_ids, sequences = _sequences(items, tables.chunks(), config, rejected)
    digest = _digest(items, contents, sequences)
    return Dataset(config.folder.name, items, contents, user_ids, sequences, digest, rejected)


def repeated_targets(dataset: Dataset) -> str:
    """Return a warning where most test targets stand
    in their users' histories; empty where few do.
    """
    repeated = dataset.split().repeated("test")
    count = int(repeated.sum())
    share = float(repeated.mean())
    if share < MOSTLY:
        return ""
    return (
        f"{count} of {len(repeated)} users' last items stand in their histories already and count"
        f" as misses: no figure can be above {1 - share:.4f}; is every interaction in the log once?"
    )


def _contents(
    items: pl.DataFrame, config: DataConfig, rejected: Rejections
) -> tuple[pl.DataFrame, list[Content]]:
    """Read texts and pictures; an item that has none
    of what is asked for is left out, and counted.
    """
    texts = _texts(items, config)
    images = (
        _pictures(items, config, rejected) if config.images is not None else [None] * items.height
    )
    contents = [Content(text, image) for text, image in zip(texts, images, strict=True)]
    empty = [
        row
        for row, content in enumerate(contents)
        if not content.text.replace(BETWEEN, "").strip() and content.image is None
    ]
    kind = NAMELESS if config.images is None else "item without an image"
    rejected.add(kind, len(empty), items["item_id"][empty[0]] if empty else "")
    kept = np.setdiff1d(np.arange(items.height), empty)
    return items[kept.tolist()], [contents[row] for row in kept]


def _texts(items: pl.DataFrame, config: DataConfig) -> list[str]:
    """Fill the templates: one text an item,
    joined of several attributes, or empty where none is asked for.
    """
    templates = [config.text] if isinstance(config.text, str) else config.text
    attributes = [item_texts(items, template) for template in templates if template]
    if len(attributes) > 1:
        return [joined([one.strip() for one in row]) for row in zip(*attributes, strict=True)]
    return attributes[0] if attributes else [""] * items.height


def _pictures(
    items: pl.DataFrame, config: DataConfig, rejected: Rejections
) -> list[Picture | None]:
    """Find each item's picture by the column `image`, and read it to its end once: a damaged one is
    reported now.

    Raises:
        DataError: no such folder, zip or LMDB, or no such column.
    """
    assert config.images is not None  # noqa: S101 - asked only then
    if "image" not in items.columns:
        raise DataError(
            f"data.images: the items lack a column image; they have {', '.join(items.columns)}"
        )
    found: list[Picture | None] = []
    try:
        pictures = Pictures(config.images)
    except ImageError as error:
        raise DataError(f"data.images: {error}") from error
    for name in items["image"].cast(pl.String).fill_null("").to_list():
        picture = None
        try:
            picture = pictures.find(name) if name else None
            if picture is not None:
                check(picture.read(), name)
        except ImageError as error:
            rejected.add("damaged image", 1, str(error))
            picture = None
        found.append(picture)
    return found


def item_texts(items: pl.DataFrame, template: str) -> list[str]:
    """Fill a template such as `{title} ({year})` from the columns; missing values become empty.

    Raises:
        DataError: it names a column that is not there.
    """
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
    missing = sorted(set(names) - set(items.columns))
    if missing:
        raise DataError(
            f"text {template!r} names {', '.join(missing)}; the items have"
            f" {', '.join(items.columns)}"
        )
    columns = items.select(_as_text(items, name) for name in dict.fromkeys(names))
    return [template.format(**row) for row in columns.iter_rows(named=True)]


def _matches(where: WhereConfig, items: pl.DataFrame) -> pl.Expr:
    if where.column not in items.columns:
        raise DataError(
            f"data.where names column {where.column!r}; the items have {', '.join(items.columns)}"
        )
    words = _as_text(items, where.column).str.replace_all(r"[|,;]", " ").str.split(" ")
    chosen = (
        words.list.set_intersection(where.any).list.len() > 0 if where.any else pl.lit(value=True)
    )
    if where.none:
        chosen &= words.list.set_intersection(where.none).list.len() == 0
    return chosen & pl.Series([_part(item, where.parts) == where.part for item in items["item_id"]])


def _part(item_id: str, parts: int) -> int:
    """Return the part of the catalog, from 1, that an item is in."""
    return 1 + int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:8]) % parts


def _as_text(items: pl.DataFrame, column: str) -> pl.Expr:
    values = pl.col(column)
    if isinstance(items.schema[column], pl.List):
        values = values.cast(pl.List(pl.String)).list.join("|")
    return values.cast(pl.String).fill_null("")


def _sequences(
    items: pl.DataFrame, log: Iterator[pl.DataFrame], config: DataConfig, rejected: Rejections
) -> tuple[list[str], list[Integers]]:
    rows = items.select("item_id").with_row_index("row")
    known = [
        chunk.join(rows, on="item_id", maintain_order="left").select(
            "user_id", "timestamp", pl.col("row").cast(pl.Int32)
        )
        for chunk in log
    ]
    ordered = _once(pl.concat(known), config, rejected).sort("timestamp", maintain_order=True)
    users = (
        ordered.group_by("user_id", maintain_order=True)
        .agg(pl.col("row").cast(pl.Int64))
        .sort("user_id")
    )
    short = users.filter(pl.col("row").list.len() < config.min_interactions)
    kind = f"user with fewer than {config.min_interactions} interactions"
    rejected.note(kind, short.height, short["user_id"][0] if short.height else "")
    users = users.filter(pl.col("row").list.len() >= config.min_interactions)
    if config.users:
        users = users.head(config.users)
    if users.height == 0:
        raise DataError(f"no user has {config.min_interactions} interactions with this catalog")
    return users["user_id"].to_list(), [np.asarray(row, np.int64) for row in users["row"].to_list()]


def _once(log: pl.DataFrame, config: DataConfig, rejected: Rejections) -> pl.DataFrame:
    """Drop interactions that stand in a log twice, however far apart."""
    if config.keep_duplicates:
        return log
    once = log.unique(maintain_order=True)
    if once.height < log.height:
        rejected.note(
            REPEATED, log.height - once.height, log.filter(log.is_duplicated())["user_id"][0]
        )
    return once


def _digest(items: pl.DataFrame, contents: Sequence[Content], sequences: Sequence[Integers]) -> str:
    total = hashlib.sha256()
    for item_id, content in zip(items["item_id"], contents, strict=True):
        image = f"\0{content.image.digest}" if content.image is not None else ""
        total.update(f"{item_id}\0{content.text}{image}\n".encode())
    for row in sequences:
        total.update(row.tobytes() + b"\n")
    return total.hexdigest()
