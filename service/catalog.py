"""A domain's catalog at one generation, as one immutable value."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.state import CatalogRows


@dataclass(frozen=True, slots=True)
class Catalog:
    """What answering needs of a catalog; the texts stay in the state until something is embedded.

    `row_of` maps ids to rows. `by_popularity` int32 [n] lists rows, most popular first, earlier items first among
    equals.
    """

    generation: int
    ids: list[str]
    row_of: dict[str, int]
    by_popularity: NDArray[np.int32]

    @classmethod
    def of(cls, rows: CatalogRows) -> Catalog:
        """Index what the state holds."""
        return cls(
            rows.generation,
            rows.ids,
            {item_id: row for row, item_id in enumerate(rows.ids)},
            np.argsort(-np.array(rows.popularity, np.float64), kind="stable").astype(np.int32),
        )

    @property
    def memory_bytes(self) -> int:
        """What ids, their lookup and the popularity order take."""
        strings = sum(map(sys.getsizeof, self.ids))
        return strings + sys.getsizeof(self.row_of) + sys.getsizeof(self.ids) + self.by_popularity.nbytes
