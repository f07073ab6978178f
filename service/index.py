"""The index: exact inner product over a domain's item vectors."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class ExactIndex:
    """Compares with every vector; holds nothing beside the array `vectors [n, d]`, which may be mapped."""

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, users: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return the k best rows for each of `users [B, d]`: scores and rows, both [B, min(k, n)], best first."""
        if not len(self) or not k:
            return np.zeros((len(users), 0), np.float32), np.zeros((len(users), 0), np.int64)
        scores, rows = faiss.knn(users, self._vectors, min(k, len(self)), faiss.METRIC_INNER_PRODUCT)
        return scores, rows


def use_one_thread() -> None:
    """One query at a time is answered fastest by one thread."""
    faiss.omp_set_num_threads(1)
