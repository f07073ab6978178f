"""Checks that a version must pass before it goes live,
whatever its figures: finite, not collapsed, searchable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from service.catalog.index import Rows
from service.catalog.live_items import LiveItems
from service.errors import VerificationFailed
from service.version import NONE
from transrec.arrays import Floats

MIN_DISTINCT = 0.1
PROBES = 64
SAMPLE = 2048
BATCH_HISTORIES = 16
BLOCK_ROWS = 65_536
TOLERANCE = 1e-3

Encode = Callable[[Sequence[Sequence[int]]], Floats]
"""Encodes histories, given as rows of the items, to user vectors [B, d]."""
Contents = Callable[[Sequence[str]], Collection[object]]
"""Returns what is embedded of items of the catalog, by their ids, in any order."""


def verify(name: str, items: LiveItems, encode: Encode, window: int, contents: Contents) -> None:
    """Check a version before it goes live.

    Args:
        name: of the version, for people.
        items: with its vectors.
        encode: the version's user side.
        window: items of a history that it reads.
        contents: distinguishes different items from equal ones.

    Raises:
        VerificationFailed: vectors that are not finite or nearly all the same, an index that does
            not hold them, or a user side that overflows.
    """
    rows = find_living_rows(items)
    check_finite(name, items, rows)
    # A sample: telling all rows of a large catalog apart would keep requests waiting.
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)]
    different = len(set(contents(items.ids(sample))))
    distinct = len({vector.tobytes() for vector in items.vectors(sample)})
    if different > PROBES and distinct < MIN_DISTINCT * different:
        cause = "the backbone cannot tell them apart" if name == NONE else "the adapter collapsed"
        raise VerificationFailed(
            f"{different} different items have only {distinct} different vectors: {cause}"
        )
    if len(rows):
        _check_answers(items, encode, window, sample[:: max(1, len(sample) // PROBES)])


def find_living_rows(items: LiveItems) -> Rows:
    """Return the rows of all items, available or not."""
    start = len(items.base.ids)
    base = np.delete(np.arange(start, dtype=np.int64), items.delta.dead)
    return np.concatenate([base, start + np.arange(len(items.delta.ids), dtype=np.int64)])


def check_finite(name: str, items: LiveItems, rows: NDArray[np.int64]) -> None:
    """Check some rows' vectors.

    Raises:
        VerificationFailed: some are not finite.
    """
    bad = 0
    for start in range(0, len(rows), BLOCK_ROWS):
        bad += int((~np.isfinite(items.vectors(rows[start : start + BLOCK_ROWS])).all(1)).sum())
    if bad:
        raise VerificationFailed(
            f"{bad} of {len(rows)} item vectors are not finite under version {name}: not activated"
        )


def _check_answers(
    items: LiveItems, encode: Encode, window: int, probes: NDArray[np.int64]
) -> None:
    """Encode histories of one item and of many, and search: what a request does."""
    histories = [
        probes[start : start + size].tolist()
        for size in (1, window)
        for start in range(len(probes))
    ]
    batches = [
        histories[start : start + BATCH_HISTORIES]
        for start in range(0, len(histories), BATCH_HISTORIES)
    ]
    users = np.concatenate([encode(batch) for batch in batches])
    if not np.isfinite(users).all():
        raise VerificationFailed(
            "the user side overflows: histories have vectors that are not finite; not activated"
        )
    scores, rows = items.search(users, 1)
    if not rows.shape[1]:  # nothing of it is available
        return
    direct = np.einsum("bd,bd->b", users, items.vectors(rows[:, 0]))
    if not np.isfinite(scores).all() or not np.allclose(
        scores[:, 0], direct, rtol=TOLERANCE, atol=TOLERANCE * np.abs(scores).max()
    ):
        raise VerificationFailed("the index does not answer from its own vectors: not activated")
