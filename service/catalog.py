"""A domain's catalog at one generation, as one immutable value."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.state import CatalogRows

KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Catalog:
    """Ids and texts by row.

    `row_of` maps ids to rows. `keys` [n, 16] is a hash of each text: what a vector is kept under. `by_popularity`
    int32 [n] lists rows, most popular first, earlier items first among equals.
    """

    generation: int
    ids: list[str]
    texts: list[str]
    row_of: dict[str, int]
    keys: NDArray[np.uint8]
    by_popularity: NDArray[np.int32]

    @classmethod
    def of(cls, rows: CatalogRows) -> Catalog:
        """Index what the state holds."""
        hashes = b"".join(hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in rows.texts)
        return cls(
            rows.generation,
            rows.ids,
            rows.texts,
            {item_id: row for row, item_id in enumerate(rows.ids)},
            np.frombuffer(hashes, np.uint8).reshape(-1, KEY_BYTES),
            np.argsort(-np.array(rows.popularity, np.float64), kind="stable").astype(np.int32),
        )

    @property
    def memory_bytes(self) -> int:
        """What ids, their lookup and the popularity order take; texts are not needed to answer."""
        strings = sum(map(sys.getsizeof, self.ids))
        return strings + sys.getsizeof(self.row_of) + sys.getsizeof(self.ids) + self.by_popularity.nbytes
