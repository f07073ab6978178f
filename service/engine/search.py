"""The search of a batch: user vectors of many domains, each in the items of its own live value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from service.catalog.live_items import LiveItems
from service.engine.engine import Found
from transrec.arrays import Floats


def search(
    wanted: Sequence[tuple[LiveItems, int]], users: Floats
) -> Iterator[tuple[int, Found | FloatingPointError]]:
    """Find the k best items for each of `users [B, d]`; the users of one catalog are searched for
    together.

    Args:
        wanted: for each user, the items to search and k.
        users: one row a user.

    Yields:
        The place of a user in the batch, with scores and rows, best first, or the error that is the
            user's alone.
    """
    by_items: dict[int, list[int]] = {}
    finite = np.asarray(np.isfinite(users).all(axis=1))
    for place, (items, _) in enumerate(wanted):
        if finite[place]:
            by_items.setdefault(id(items), []).append(place)
        else:
            # FAISS would answer such a vector with one row, k times.
            yield place, FloatingPointError("the user vector of this history is not finite")

    for places in by_items.values():
        items = wanted[places[0]][0]
        scores, rows = items.search(users[places], max(wanted[place][1] for place in places))
        for line, place in enumerate(places):
            k = wanted[place][1]
            yield place, (scores[line, :k], rows[line, :k])
