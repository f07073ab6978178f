"""The index: exact inner product over a domain's item vectors."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class ExactIndex:
    """FAISS `IndexFlatIP`; `vectors` [n, d] is a view of what the index holds, so that they are in memory once."""

    def __init__(self, vectors: Floats) -> None:
        count, width = vectors.shape
        self._index = faiss.IndexFlatIP(width)
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        held: Floats = faiss.rev_swig_ptr(self._index.get_xb(), count * width) if count else np.zeros(0, np.float32)
        self.vectors: Floats = held.reshape(count, width)
        self.vectors.flags.writeable = False

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, users: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return the k best rows for each of `users [B, d]`: scores and rows, both [B, min(k, n)], best first."""
        if not len(self):
            return np.zeros((len(users), 0), np.float32), np.zeros((len(users), 0), np.int64)
        scores, rows = self._index.search(users, min(k, len(self)))
        return scores, rows


def use_one_thread() -> None:
    """One query at a time is answered fastest by one thread."""
    faiss.omp_set_num_threads(1)
