"""Ids of a catalog in three flat arrays that processes map and share:
no string and no dictionary entry per item.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.catalog.mapped import forget_pages, is_cut, open_array

FILES = ("ids", "ends", "hashes", "order")


class Ids:
    """`blob` holds the ids one behind the other, `ends [n]` where each ends.

    `hashes [n]`, sorted, and `order [n]`, the rows they belong to, find an id; it is compared with
    the blob, so that two ids of one hash are told apart.
    """

    def __init__(
        self,
        blob: NDArray[np.uint8],
        ends: NDArray[np.int64],
        hashes: NDArray[np.uint32],
        order: NDArray[np.int32],
    ) -> None:
        self._blob = blob
        self._bytes_of = memoryview(blob.data)
        self._ends = ends
        self._hashes = hashes
        self._order = order
        self.nbytes = blob.nbytes + ends.nbytes + hashes.nbytes + order.nbytes

    @classmethod
    def of(cls, ids: Sequence[str]) -> Ids:
        """Index ids; row i is the i-th."""
        encoded = [item_id.encode("utf-8", "surrogatepass") for item_id in ids]
        ends = (
            np.cumsum([len(one) for one in encoded], dtype=np.int64)
            if encoded
            else np.zeros(0, np.int64)
        )
        hashes = np.array([zlib.crc32(one) for one in encoded], np.uint32)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends, hashes[order], order)

    @classmethod
    def open(cls, folder: Path) -> Ids:
        """Map what `save` wrote.

        Raises:
            OSError, ValueError: a file is missing or damaged.
        """
        return cls(*(open_array(folder / f"{name}.npy") for name in FILES))

    def save(self, folder: Path) -> None:
        """Write the arrays."""
        arrays: tuple[NDArray[Any], ...] = (self._blob, self._ends, self._hashes, self._order)
        for name, array in zip(FILES, arrays, strict=True):
            np.save(folder / f"{name}.npy", array)

    def forget_pages(self) -> None:
        """Take what is mapped from memory until it is read again."""
        for array in (self._blob, self._ends, self._hashes, self._order):
            forget_pages(array)

    def is_cut(self) -> bool:
        """Whether a mapped file lost some of its end."""
        return any(is_cut(array) for array in (self._blob, self._ends, self._hashes, self._order))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        return self._bytes(row).decode("utf-8", "surrogatepass")

    def rows(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the rows of those ids that are there."""
        wanted = {item_id: item_id.encode("utf-8", "surrogatepass") for item_id in ids}
        hashes = np.fromiter(map(zlib.crc32, wanted.values()), np.uint32, len(wanted))
        places = np.searchsorted(self._hashes, hashes).tolist()
        found = {}
        for (item_id, encoded), place, code in zip(
            wanted.items(), places, hashes.tolist(), strict=True
        ):
            row = self._row(encoded, place, code)
            if row is not None:
                found[item_id] = row
        return found

    def _row(self, encoded: bytes, place: int, code: int) -> int | None:
        while place < len(self._hashes) and self._hashes.item(place) == code:
            row = self._order.item(place)
            if self._bytes(row) == encoded:
                return row
            place += 1
        return None

    def _bytes(self, row: int) -> bytes:
        start = self._ends.item(row - 1) if row else 0
        return bytes(self._bytes_of[start : self._ends.item(row)])
