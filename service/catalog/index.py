"""The index over a base's vectors: exact or, for large catalogs, approximate, its recall measured
when it is built.

The approximate kind keeps, in inverted lists, vectors of one byte a number; what it finds is ranked
again by the exact vectors, which are in memory anyway. How many lists a query visits is searched
for when it is built, on queries of the domain itself, until recall@10 against the exact index is
what was promised.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from transrec.arrays import Floats

KIND = "ivf_sq8"
MIN_RECALL = 0.98
RECALL_AT = 10
OVERFETCH = 4
"""Candidates per wanted result: they are found approximately and ranked exactly.

Larger k visits more lists.
"""
TRAIN_POINTS_PER_LIST = 256
TRAIN_ITERATIONS = 10
MIN_SAMPLE = 100_000
SAMPLE_PER_LIST = 40
LONGEST_SHARE = 0.1
"""An index is trained on so many vectors, or so many a list; a tenth of them are the longest."""
TIMED_QUERIES = 64
TURN_QUERIES = 8
BLOCK_ROWS = 1 << 16
PROBE_GROWTH = 1.3
SCORE_TOLERANCE = 1e-5
WIDEN_EXPONENT = 1.0

Rows = NDArray[np.int64]


class Index(Protocol):
    """Finds the best rows of vectors [n, d] by inner product."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes beside the vectors."""
        ...

    def search(self, users: Floats, k: int) -> tuple[Floats, Rows]:
        """Return the k best rows for each of `users [B,
        d]`: scores and rows, both [B, min(k, n)], best first.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a domain's card says of it."""
        ...

    def is_cut(self) -> bool:
        """Whether a file that it maps lost some of its end: it must not be searched any more."""
        ...


class ExactIndex:
    """Compares with every vector; holds nothing beside
    the array `vectors [n, d]`, which may be mapped.
    """

    nbytes = 0

    def is_cut(self) -> bool:
        """Return False: it has no file of its own."""
        return False

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, users: Floats, k: int) -> tuple[Floats, Rows]:
        """Return the k best rows for each of `users [B,
        d]`: scores and rows, both [B, min(k, n)], best first.
        """
        if not len(self) or not k:
            return np.zeros((len(users), 0), np.float32), np.zeros((len(users), 0), np.int64)
        scores, rows = faiss.knn(
            users, self._vectors, min(k, len(self)), faiss.METRIC_INNER_PRODUCT
        )
        return scores, rows

    def describe(self) -> dict[str, Any]:
        """Return that it is exact."""
        return {"kind": "exact"}


@dataclass(frozen=True, slots=True)
class Tuned:
    """How an approximate index was tuned: on `queries` from `source`, it reached `recall_at_10`."""

    lists: int
    probes: int
    recall_at_10: float
    queries: int
    source: str
    microseconds: float
    exact_microseconds: float

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Self:
        """Read plain JSON."""
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


class TunedIndex:
    """An approximate index, mapped from its file,
    and the exact vectors [n, d] that rank what it finds.
    """

    def __init__(self, path: Path, vectors: Floats, tuned: Tuned) -> None:
        self._index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        self._vectors = vectors
        self._tuned = tuned
        self._exact = ExactIndex(vectors)
        self.nbytes = path.stat().st_size
        self._path = path

    def is_cut(self) -> bool:
        """Whether its file lost some of its end."""
        try:
            return self._path.stat().st_size < self.nbytes
        except OSError:  # one that was removed stays whole while it is mapped
            return False

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, users: Floats, k: int) -> tuple[Floats, Rows]:
        """Return about the k best rows for each of `users [B,
        d]`, with their exact scores, best first.
        """
        count = min(k, len(self))
        wide = min(
            self._tuned.lists,
            self._tuned.probes * math.ceil((max(count, RECALL_AT) / RECALL_AT) ** WIDEN_EXPONENT),
        )
        visited = faiss.SearchParametersIVF(nprobe=wide)  # type: ignore[call-arg] # its stub lacks the arguments
        _, found = self._index.search(
            users, min(OVERFETCH * max(count, RECALL_AT), len(self)), params=visited
        )
        if not count:
            return self._exact.search(users, k)
        scores = np.einsum("bd,bkd->bk", users, self._vectors[found])
        order = np.lexsort((found, -scores), axis=1)[:, :count]
        scores = np.take_along_axis(scores, order, 1)
        rows = np.take_along_axis(found, order, 1)
        lacking = (found < 0).any(1)  # the lists that were visited do not hold so many
        if lacking.any():  # query by query: an answer must not depend on what else is in its batch
            scores[lacking], rows[lacking] = self._exact.search(users[lacking], k)
        return scores, rows

    def describe(self) -> dict[str, Any]:
        """Return how it was tuned."""
        return {"kind": KIND, **self._tuned.to_json()}


def build(vectors: Floats, queries: Floats, source: str, path: Path) -> Tuned | None:
    """Build and tune an approximate index over vectors [n, d] and write it; None where exact search
    is as good.

    Args:
        vectors: of what may be recommended.
        queries: [q, d] user vectors of the domain, or vectors of its items.
        source: which of the two.
        path: where it is written.
    """
    count, width = vectors.shape
    lists = max(16, 1 << round(math.log2(2 * math.sqrt(count))))
    coarse = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFScalarQuantizer(
        coarse, width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid = TRAIN_POINTS_PER_LIST
    index.cp.niter = TRAIN_ITERATIONS
    index.cp.spherical = True  # else the longest centres draw most vectors into a few lists
    index.train(_sample(vectors, max(MIN_SAMPLE, SAMPLE_PER_LIST * lists)))
    for start in range(0, count, BLOCK_ROWS):
        index.add(np.ascontiguousarray(vectors[start : start + BLOCK_ROWS]))
    faiss.write_index(index, str(path))
    tuned = _tune(path, vectors, queries, source, lists)
    if tuned is None:
        path.unlink()
    return tuned


def _sample(vectors: Floats, count: int) -> Floats:
    """Choose vectors to train on: the quantizer must
    know the longest ones, which are recommended most.
    """
    if len(vectors) <= count:
        return np.ascontiguousarray(vectors)
    blocks = range(0, len(vectors), BLOCK_ROWS)
    lengths = np.concatenate(
        [np.linalg.norm(vectors[start : start + BLOCK_ROWS], axis=1) for start in blocks]
    )
    order = np.argsort(-lengths, kind="stable")
    longest, others = np.split(order, [int(LONGEST_SHARE * count)])
    chosen = np.random.default_rng(0).choice(others, count - len(longest), replace=False)
    return np.ascontiguousarray(vectors[np.sort(np.concatenate([longest, chosen]))])


def _tune(path: Path, vectors: Floats, queries: Floats, source: str, lists: int) -> Tuned | None:
    exact = ExactIndex(vectors)
    wanted = exact.search(queries, RECALL_AT)[0]
    probes = 1
    while probes <= lists:
        trial = TunedIndex(path, vectors, Tuned(lists, probes, 0.0, len(queries), source, 0.0, 0.0))
        recall = _recall(wanted, trial.search(queries, RECALL_AT)[0])
        if recall >= MIN_RECALL:
            took, exact_time = _microseconds((trial, exact), queries)
            return (
                Tuned(lists, probes, recall, len(queries), source, took, exact_time)
                if took < exact_time
                else None
            )
        probes = max(probes + 1, round(PROBE_GROWTH * probes))
    return None


def _recall(wanted: Floats, found: Floats) -> float:
    """Return which share of what was found is as good as what was wanted,
    by scores [q, k]: equal items are equal.
    """
    least = wanted[:, -1:] - SCORE_TOLERANCE * np.abs(wanted[:, -1:])
    return float((found >= least).mean())


def _microseconds(indexes: Sequence[Index], queries: Floats) -> list[float]:
    """Return the time of one query, alone, of each index, by the median.

    They take turns, some queries each: what else the machine does falls on all of them.
    """
    timed = queries[:TIMED_QUERIES]
    times: list[list[float]] = [[] for _ in indexes]
    for start in range(0, len(timed), TURN_QUERIES):
        for index, taken in zip(indexes, times, strict=True):
            for query in timed[start : start + TURN_QUERIES]:
                began = time.perf_counter()
                index.search(query[None], RECALL_AT)
                taken.append(time.perf_counter() - began)
    return [round(1e6 * float(np.median(taken)), 1) for taken in times]


def use_one_thread() -> None:
    """One query at a time is answered fastest by one thread."""
    faiss.omp_set_num_threads(1)
