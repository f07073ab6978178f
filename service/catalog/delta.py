"""What changed in a catalog since its base: few items, held in memory by each process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.catalog.ids import Ids
from service.state import ChangedItem, Changes
from transrec.arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """Items that are new or changed, with their vectors [m, d], and the rows of the base that no
    longer count.

    Never changed: `with_changes` copies, which is cheap for the few thousand items that a delta is
    meant for. `places` maps ids to places here; `dead` are rows of the base, sorted.
    """

    ids: list[str]
    places: dict[str, int]
    vectors: Floats
    popularity: NDArray[np.float64]
    available: NDArray[np.bool_]
    dead: NDArray[np.int64]

    @classmethod
    def empty(cls, width: int) -> Self:
        """Return no change."""
        no_items = np.zeros((0, width), np.float32), np.zeros(0, np.float64), np.zeros(0, np.bool_)
        return cls([], {}, *no_items, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids) + len(self.dead)

    def with_changes(self, base: Ids, changes: Changes, vectors: Floats) -> Delta:
        """Return the delta after more changes; applying some of them again changes nothing.

        Args:
            base: ids of the base.
            changes: upserts and deletes.
            vectors: [number of upserts, d].
        """
        touched = [item.item_id for item in changes.upserted] + [
            item_id for _, item_id in changes.deleted
        ]
        removed = {self.places[item_id] for item_id in touched if item_id in self.places}
        kept = [place for place in range(len(self.ids)) if place not in removed]
        ids = [self.ids[place] for place in kept] + [item.item_id for item in changes.upserted]
        dead = np.union1d(self.dead, np.array(list(base.rows(touched).values()), np.int64))
        new = changes.upserted
        return Delta(
            ids,
            {item_id: place for place, item_id in enumerate(ids)},
            np.concatenate(
                [self.vectors[kept], vectors.astype(np.float32, copy=False).reshape(len(new), -1)]
            )
            if new
            else self.vectors[kept],
            np.concatenate([self.popularity[kept], _popularity(new)]),
            np.concatenate(
                [self.available[kept], np.array([item.available for item in new], np.bool_)]
            ),
            dead,
        )

    @property
    def nbytes(self) -> int:
        """Bytes beside the vectors, about."""
        return self.dead.nbytes + sum(200 + len(item_id) for item_id in self.ids)


def _popularity(items: Sequence[ChangedItem]) -> NDArray[np.float64]:
    return np.array([item.popularity for item in items], np.float64)
