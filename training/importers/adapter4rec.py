"""The paper's files: `*users*.tsv` (`user<TAB>item item …`) and `*items*.tsv` or `*news*.tsv`
(`item<TAB>title`).

A user's items stand oldest first; their place in the line is the timestamp. The files of their
image data sets hold ids alone: the column `image` names `ITEM.jpg`, in a folder, a zip, or their
LMDB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.importers.tables import Source, Tables, in_chunks, lines_of, one_file
from training.rejections import Rejections


def read(source: Source) -> Tables:
    """Read the two files of a folder.

    Raises:
        DataError: not exactly one of each.
    """
    folder = source.folder
    rejected = source.rejected
    items = list(
        _items(one_file(folder, "*[in][te][ew][ms]*.tsv", "file of items or news"), rejected)
    )
    log = sequences(one_file(folder, "*users*.tsv", "file of users"), rejected)
    catalog = pl.DataFrame(
        items, schema=dict.fromkeys(("item_id", "title", "image"), pl.String), orient="row"
    )
    return Tables(catalog, log, rejected)


def _items(path: Path, rejected: Rejections) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(lines_of(path), 1):
        item, _, title = (part.strip() for part in line.partition("\t"))
        if item:
            yield item, title, f"{item}.jpg"
        elif title:
            rejected.add(f"{path.name}: a title without an item", 1, f"line {number}: {line}")


def sequences(path: Path, rejected: Rejections) -> Iterator[pl.DataFrame]:
    """Read a file of lines `user<TAB>item item …`, the oldest item first, as interactions.

    Raises:
        DataError: it is not UTF-8.
    """

    def rows() -> Iterator[tuple[str, str, int]]:
        seen: set[str] = set()
        for user, line in _rows(path, rejected):
            if user in seen:  # a second line cannot be put in order with the first
                rejected.add("user with a second line", 1, user)
                continue
            seen.add(user)
            for place, item in enumerate(line.split()):
                yield user, item, place

    return in_chunks(rows(), {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64})


def _rows(path: Path, rejected: Rejections) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines_of(path), 1):
        key, tab, rest = line.partition("\t")
        if tab and key.strip() and rest.strip():
            yield key.strip(), rest.strip()
        elif line.strip():
            rejected.add(f"{path.name}: no two fields", 1, f"line {number}: {line}")
