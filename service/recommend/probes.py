"""Held-out probes of a domain: what a version makes
of them by the very path that answers requests.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.errors import QueueFull
from service.live.table import LiveDomain
from service.recommend.identity import identify
from service.recommend.recommend import Reader, recommend
from service.state import Probe
from service.wire.requests import RecommendRequest
from service.wire.responses import Evaluated
from transrec.metrics import hit_rate, ndcg

SLICE_PROBES = 8
"""Probes that are asked together: live traffic comes first."""
SLICE_ITEMS = 80
"""Items that they are answered with, at most."""
PAUSE_S = 0.02
CHECK_EVERY_PROBES = 16

Lists = list[list[str]]
Note = Callable[[int, list[str]], None]
Disconnected = Callable[[], Awaitable[bool]]


@dataclass(slots=True)
class ProbeResults:
    """What is kept of the lists that probes were answered with.

    `places` are those of the targets, from 1, and 0 where a target is in no list.
    """

    probes: Sequence[Probe]
    places: list[int] = field(default_factory=list)
    distinct: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, probes: Sequence[Probe], lists: Lists) -> ProbeResults:
        """Count lists, one a probe."""
        results = cls(probes)
        for number, items in enumerate(lists):
            results.add(number, items)
        return results

    def add(self, number: int, items: list[str]) -> None:
        """Count the list of the next probe."""
        target = self.probes[number].target
        self.places.append(items.index(target) + 1 if target in items else 0)
        self.distinct.update(items)


async def evaluate(
    live: LiveDomain,
    probes: Sequence[Probe],
    reader: Reader,
    k: int = 10,
    disconnected: Disconnected | None = None,
) -> Evaluated:
    """Ask a live value every probe; a target that it does not know is a miss, and counted.

    Args:
        live: of the version.
        probes: histories, oldest first, and what came next.
        reader: as requests have it.
        k: how long the lists are.
        disconnected: whether nobody waits for the answer any more.

    Raises:
        ClientDisconnect: nobody does.
    """
    results = ProbeResults(probes)
    await _ask(live, probes, reader, k, results.add, disconnected)
    return await run_in_threadpool(figures, live, results, k)


async def answers(live: LiveDomain, probes: Sequence[Probe], reader: Reader, k: int) -> Lists:
    """Return what a live value recommends to each probe, a few probes at a time."""
    lists: Lists = []
    await _ask(live, probes, reader, k, lambda _, items: lists.append(items))
    return lists


async def _ask(
    live: LiveDomain,
    probes: Sequence[Probe],
    reader: Reader,
    k: int,
    note: Note,
    disconnected: Disconnected | None = None,
) -> None:
    """Ask probes in slices, and note what each is answered with, in order."""
    size = max(1, min(SLICE_PROBES, SLICE_ITEMS // k))
    for number, start in enumerate(range(0, len(probes), size)):
        if disconnected is not None and number % CHECK_EVERY_PROBES == 0 and await disconnected():
            raise ClientDisconnect
        async with reader.pace.turn():
            asked = (_answer(live, probe, reader, k) for probe in probes[start : start + size])
            lists = await asyncio.gather(*asked)
        for place, items in enumerate(lists, start):
            note(place, items)


async def _answer(live: LiveDomain, probe: Probe, reader: Reader, k: int) -> list[str]:
    request = RecommendRequest.model_validate(
        {"history": probe.history, "k": k, "fallback": "none"}
    )
    while True:
        try:
            answer = await recommend(live, request, reader)
        except QueueFull:
            await asyncio.sleep(PAUSE_S)
        else:
            return [item["item_id"] for item in answer["items"]]


def figures(live: LiveDomain, results: ProbeResults, k: int) -> Evaluated:
    """Return HR@k and NDCG@k of what probes were answered with,
    and how many different items are in it.
    """
    probes = results.probes
    ranks = np.array([place or math.inf for place in results.places], np.float64)
    count = max(1, len(probes))
    known = live.items.rows({probe.target for probe in probes})
    return {
        **identify(live),
        "k": k,
        "probes": len(probes),
        "hr": float(hit_rate(ranks, k).sum()) / count,
        "ndcg": float(ndcg(ranks, k).sum()) / count,
        "unknown_targets": sum(probe.target not in known for probe in probes),
        "distinct_items": len(results.distinct),
    }


def overlap(ours: Lists, theirs: Lists) -> float:
    """Return which share of the items two versions both recommend, on average over probes."""
    shares = [
        len(set(one) & set(other)) / max(1, min(len(one), len(other)))
        for one, other in zip(ours, theirs, strict=True)
        if one and other
    ]
    return sum(shares) / max(1, len(shares))
