"""Histories in a column, `a b c` before the item `d`, become interactions, each of them once.

A row says: after the items of `item_id_list` came `item_id`. Such files repeat a user's history in
row after row, each time one item longer, or as a window that moves on. Therefore rows of a user are
laid over each other: what the user's sequence already contains is nothing new, what continues its
end is added, and what has nothing in common with its end is a further session after it. The place
in the sequence becomes the timestamp.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import polars as pl

from training.importers.tables import in_chunks
from training.rejections import Rejections

SEQUENCE = "item_id_list"
_FURTHER = "sequence that continues no earlier one of its user"


def unrolled(log: Iterator[pl.DataFrame], rejected: Rejections) -> Iterator[pl.DataFrame]:
    """Yield interactions of rows `user_id`, `item_id_list` and, where there is one, the `item_id`
    that came next.

    All users' sequences are in memory until the last row was read.
    """
    users: dict[str, UserHistory] = {}
    for chunk in log:
        targets = (
            chunk["item_id"]
            if "item_id" in chunk.columns
            else pl.repeat("", chunk.height, eager=True)
        )
        for user, listed, target in zip(chunk["user_id"], chunk[SEQUENCE], targets, strict=True):
            row = [sys.intern(item) for item in f"{listed or ''} {target or ''}".split()]
            if not row:
                rejected.add("sequence without items", 1, user)
                continue
            history = users.setdefault((user or "").strip(), UserHistory())
            if not history.extend(row):
                rejected.note(_FURTHER, 1, user)
    rows = (
        (user, item, place)
        for user, history in users.items()
        for place, item in enumerate(history.items)
    )
    yield from in_chunks(rows, {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64})


class UserHistory:
    """A user's items, oldest first, gathered from rows that overlap."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self._seen: set[str] = set()

    def extend(self, row: Sequence[str]) -> bool:
        """Add what a row has beyond this history;
        returns whether it overlaps, as the first row does.
        """
        row = list(row)
        if self._contains(row):
            return True
        shared = self._overlap(row)
        fits = shared > 0 or not self.items
        self.items += row[shared:]
        self._seen.update(row[shared:])
        return fits

    def _contains(self, row: list[str]) -> bool:
        size = len(row)
        if size > len(self.items) or row[-1] not in self._seen or row[0] not in self._seen:
            return False
        starts = range(len(self.items) - size, -1, -1)
        return any(self.items[at] == row[0] and self.items[at : at + size] == row for at in starts)

    def _overlap(self, row: list[str]) -> int:
        """Return how many first items of a row are the last ones here."""
        for size in range(min(len(row), len(self.items)), 0, -1):
            if self.items[-size] == row[0] and self.items[-size:] == row[:size]:
                return size
        return 0
