"""What a version of a domain recommends from:
a mapped base and a small delta, as one value that never changes.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.catalog.bases import Base
from service.catalog.delta import Delta
from service.catalog.index import ExactIndex, Index, Rows
from service.catalog.mapped import forget_pages, is_cut
from service.state import ChangedItem, Changes, Removals
from transrec.arrays import Floats

SEARCH_OVERFETCH = 32
SMALL_DELTA_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class LiveItems:
    """A catalog at one generation under one version. Rows: those of the base, then those of the
    delta.

    Deleted items have no row that an id leads to. Items that are not available have one, and are
    never found.
    """

    base: Base
    matrix: Floats
    index: Index
    delta: Delta
    generation: int
    changed_at: float
    removed_until: int
    """Removals are applied until this generation,
    other changes until `generation`, which may be earlier.
    """
    incomplete: bool = False
    """Whether more was changed until `generation` that the next base will have."""

    @classmethod
    def of(cls, base: Base, matrix: Floats, index: Index | None = None) -> Self:
        """Return a base's items with their vectors [n,
        d], as they were when it was made; exact without an index.
        """
        found = ExactIndex(matrix[: base.recommendable]) if index is None else index
        delta = Delta.empty(matrix.shape[1])
        generation = base.generation
        return cls(base, matrix, found, delta, generation, time.monotonic(), generation)

    def with_changes(self, changes: Changes, vectors: Floats) -> LiveItems:
        """Return the value after changes, with a vector for each item that was upserted."""
        nothing = not changes.upserted and not changes.deleted
        until = changes.generation
        delta = self.delta if nothing else self.delta.with_changes(self.base.ids, changes, vectors)
        return replace(
            self,
            delta=delta,
            generation=until,
            changed_at=time.monotonic(),
            removed_until=max(until, self.removed_until),
            incomplete=self.incomplete or changes.incomplete,
        )

    def without(self, removed: Removals) -> LiveItems:
        """Return the value without removed and unavailable items;
        other changes are still to come.
        """
        if removed.generation == self.removed_until:
            return self
        left = self
        unavailable = self.rows(removed.unavailable)
        if unavailable or self.rows(removed.deleted):
            items = [
                ChangedItem(0, item_id, "", 0.0, "", available=False) for item_id in unavailable
            ]
            changes = Changes(self.generation, items, [(0, item_id) for item_id in removed.deleted])
            left = self.with_changes(changes, self.vectors(list(unavailable.values())))
        return replace(left, removed_until=removed.generation)

    def __len__(self) -> int:
        """How many items there are, available or not."""
        return len(self.base.ids) - len(self.delta.dead) + len(self.delta.ids)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.matrix.shape[1])

    def rows(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the rows of those ids that are in the catalog."""
        wanted = list(ids)
        found = self.base.ids.rows(wanted)
        if not len(self.delta):
            return found
        if len(self.delta.dead):
            dead = self._are_dead(np.fromiter(found.values(), np.int64, len(found)))
            found = {
                item_id: row
                for (item_id, row), removed in zip(found.items(), dead, strict=True)
                if not removed
            }
        start = len(self.base.ids)
        places = self.delta.places
        return found | {item_id: start + places[item_id] for item_id in wanted if item_id in places}

    def ids(self, rows: Sequence[int] | Rows) -> list[str]:
        """Return the ids of rows."""
        start = len(self.base.ids)
        base = self.base.ids
        delta = self.delta.ids
        return [base[int(row)] if row < start else delta[int(row) - start] for row in rows]

    def vectors(self, rows: Sequence[int] | Rows) -> Floats:
        """Return the vectors [n, d] of rows."""
        places = np.asarray(rows, np.int64)
        start = len(self.base.ids)
        if not len(places) or places.max() < start:
            return self.matrix[places]
        late = places >= start
        found = np.empty((len(places), self.width), np.float32)
        found[~late] = self.matrix[places[~late]]
        found[late] = self.delta.vectors[places[late] - start]
        return found

    def search(self, users: Floats, k: int) -> tuple[Floats, Rows]:
        """Return the k best items that may be recommended to each of `users [B, d]`.

        Returns:
            Scores and rows, both [B, min(k, how many may be recommended)], best first.
        """
        scores, rows = self._search_base(users, k)
        place = np.flatnonzero(self.delta.available)
        if not len(place):
            return scores, rows
        late, found = ExactIndex(self.delta.vectors[place]).search(users, k)
        scores = np.concatenate([scores, late], axis=1)
        return _best(scores, np.concatenate([rows, len(self.base.ids) + place[found]], axis=1), k)

    def _search_base(self, users: Floats, k: int) -> tuple[Floats, Rows]:
        dead = self.delta.dead[: np.searchsorted(self.delta.dead, len(self.index))]
        if not len(dead):
            return self.index.search(users, k)
        wanted = min(k, len(self.index) - len(dead))
        fetch = k + SEARCH_OVERFETCH
        while True:  # more than asked for, until enough of it lives
            scores, rows = self.index.search(users, fetch)
            removed = _among(dead, rows)
            if rows.shape[1] < fetch or (~removed).sum(1).min(initial=wanted) >= wanted:
                return _best(np.where(removed, -np.inf, scores).astype(np.float32), rows, wanted)
            fetch *= 4

    def nearest(
        self, query: Floats, k: int, own: int | None = None
    ) -> tuple[list[int], list[float]]:
        """Rank what may be recommended by its cosine with `query [d]`; equal ones in the catalog's
        order.

        Returns:
            Rows, without `own`, and cosines, best first.
        """
        shown = self.base.recommendable
        late = np.flatnonzero(self.delta.available)
        cosine = np.concatenate(
            [_cosine(self.matrix[:shown], query), _cosine(self.delta.vectors[late], query)]
        )
        rows = np.concatenate([np.arange(shown, dtype=np.int64), len(self.base.ids) + late])
        left = ~np.isin(rows, [*self.delta.dead.tolist(), *([] if own is None else [own])])
        rows = rows[left]
        cosine = cosine[left]
        count = min(k, len(rows))
        best = (
            np.argpartition(-cosine, max(count - 1, 0))[:count]
            if count < len(rows)
            else np.arange(len(rows))
        )
        best = best[np.lexsort((rows[best], -cosine[best]))]
        return rows[best].tolist(), [float(one) for one in cosine[best]]

    def popular(self, count: int, excluded: Collection[int] = ()) -> list[int]:
        """Return the rows of the most popular items that may be recommended,
        earlier ones first among equals.
        """
        found: list[int] = []
        for _, row in heapq.merge(self._popular_base(), self._popular_delta()):
            if len(found) >= count:
                break
            if row not in excluded:
                found.append(row)
        return found

    def _popular_base(self) -> Iterator[tuple[float, int]]:
        dead = set(self.delta.dead.tolist())
        for place in range(len(self.base.by_popularity)):
            row = self.base.by_popularity.item(place)
            if row not in dead:
                yield -self.base.popularity.item(row), row

    def _popular_delta(self) -> list[tuple[float, int]]:
        start = len(self.base.ids)
        places = np.flatnonzero(self.delta.available).tolist()
        return sorted((-self.delta.popularity.item(place), start + place) for place in places)

    def _are_dead(self, rows: Rows) -> NDArray[np.bool_]:
        return _among(self.delta.dead, rows)

    @property
    def is_mapped(self) -> bool:
        """Whether hardly more than mapped files is in memory of it."""
        return (
            self.index.nbytes == 0
            and self.delta.vectors.nbytes + self.delta.nbytes <= SMALL_DELTA_BYTES
        )

    def forget_pages(self) -> None:
        """Take what is mapped from memory until it is read again."""
        self.base.forget_pages()
        forget_pages(self.matrix)

    def is_cut(self) -> bool:
        """Whether a file that it maps lost some of its end: reading it would kill the process."""
        return self.base.is_cut() or is_cut(self.matrix) or self.index.is_cut()

    def held(self) -> dict[int, int]:
        """Bytes of everything that it is made of,
        by identity: values of one catalog share some of it.
        """
        vectors = self.matrix.nbytes + self.index.nbytes
        changed = self.delta.vectors.nbytes + self.delta.nbytes
        return {id(self.base): self.base.nbytes, id(self.matrix): vectors, id(self.delta): changed}

    def memory(self) -> dict[str, int]:
        """Bytes by part; those of the base are mapped,
        and shared with the other processes of a host.
        """
        return {
            "vectors": self.matrix.nbytes + self.delta.vectors.nbytes,
            "index": self.index.nbytes,
            "ids": self.base.nbytes,
            "delta": self.delta.nbytes,
        }


def _cosine(vectors: Floats, query: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    return np.asarray(vectors @ query / np.where(lengths > 0, lengths, 1.0), np.float32)


def _among(some: Rows, rows: Rows) -> NDArray[np.bool_]:
    """Return which of `rows` are among some, which are sorted and not none."""
    places = np.minimum(np.searchsorted(some, rows), len(some) - 1)
    return np.asarray(some[places] == rows)


def _best(scores: Floats, rows: Rows, k: int) -> tuple[Floats, Rows]:
    """Order by score, lower rows first among equals, and keep the k best."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
