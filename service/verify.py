"""Checks that a value must pass before it goes live, whatever its figures: finite, not collapsed, searchable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from adapters_store.errors import StoreError
from service.engine import History
from service.live import LiveDomain, version_name

MIN_DISTINCT = 0.1
PROBES = 64
SAMPLE = 2048
AT_ONCE = 16
BLOCK = 65_536
TOLERANCE = 1e-3


def verify(value: LiveDomain, contents: Callable[[Sequence[str]], Collection[object]]) -> None:
    """Check a value before it goes live.

    Args:
        value: not live yet.
        contents: returns what is embedded of items of the catalog, in any order.

    Raises:
        StoreError: vectors that are not finite or nearly all the same, an index that does not hold them, or a user
            side that overflows.
    """
    rows = value.items.living()
    _verify_finite(value, rows)
    # A sample: telling all rows of a large catalog apart would keep requests waiting.
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)]
    different = len(set(contents(value.items.ids(sample))))
    distinct = len({vector.tobytes() for vector in value.items.vectors(sample)})
    if different > PROBES and distinct < MIN_DISTINCT * different:
        raise StoreError(f"{different} different items have only {distinct} different vectors: the adapter collapsed")
    if len(rows):
        _verify_answers(value, sample[:: max(1, len(sample) // PROBES)])


def _verify_finite(value: LiveDomain, rows: NDArray[np.int64]) -> None:
    bad = 0
    for start in range(0, len(rows), BLOCK):
        bad += int((~np.isfinite(value.items.vectors(rows[start : start + BLOCK])).all(1)).sum())
    if bad:
        name = version_name(value.version)
        raise StoreError(f"{bad} of {len(rows)} item vectors are not finite under version {name}: not activated")


def _verify_answers(value: LiveDomain, probes: NDArray[np.int64]) -> None:
    """Encode histories of one item and of many, and search: what a request does."""
    window = value.engine.backbone.config.max_history
    histories = [probes[start : start + size].tolist() for size in (1, window) for start in range(len(probes))]
    asked = [History(rows, value.slot, value.items) for rows in histories]
    batches = [asked[start : start + AT_ONCE] for start in range(0, len(asked), AT_ONCE)]
    users = np.concatenate([value.engine.encode(batch) for batch in batches])
    if not np.isfinite(users).all():
        raise StoreError("the user side overflows: histories have vectors that are not finite; not activated")
    scores, rows = value.items.search(users, 1)
    if not rows.shape[1]:  # nothing of it is available
        return
    direct = np.einsum("bd,bd->b", users, value.items.vectors(rows[:, 0]))
    if not np.isfinite(scores).all() or not np.allclose(
        scores[:, 0], direct, rtol=TOLERANCE, atol=TOLERANCE * np.abs(scores).max()
    ):
        raise StoreError("the index does not answer from its own vectors: not activated")
