"""Held-out probes of a domain: what a version makes of them by the very path that answers requests."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from service.answers import Evaluated
from service.errors import QueueFull
from service.live import LiveDomain, version_name
from service.recommend import Reader, recommend
from service.schemas import RecommendRequest
from service.state import Probe

AT_ONCE = 8
"""Probes in flight: live traffic comes first."""
PAUSE = 0.02

Lists = list[list[str]]


async def evaluate(live: LiveDomain, probes: Sequence[Probe], reader: Reader, k: int = 10) -> Evaluated:
    """Ask a live value every probe; a target that it does not know is a miss, and counted.

    Args:
        live: of the version.
        probes: histories, oldest first, and what came next.
        reader: as requests have it.
        k: how long the lists are.
    """
    return figures(live, probes, await answers(live, probes, reader, k), k)


async def answers(live: LiveDomain, probes: Sequence[Probe], reader: Reader, k: int) -> Lists:
    """Return what a live value recommends to each probe, a few probes at a time."""
    waiting = asyncio.Semaphore(AT_ONCE)

    async def ask(probe: Probe) -> list[str]:
        request = RecommendRequest.model_validate({"history": probe.history, "k": k, "fallback": "none"})
        async with waiting:
            while True:
                try:
                    answer = await recommend(live, request, reader)
                except QueueFull:
                    await asyncio.sleep(PAUSE)
                else:
                    return [item["item_id"] for item in answer["items"]]

    return list(await asyncio.gather(*map(ask, probes)))


def figures(live: LiveDomain, probes: Sequence[Probe], lists: Lists, k: int) -> Evaluated:
    """Return HR@k and NDCG@k of lists, and how many different items are in them."""
    places = [
        items.index(probe.target) + 1 if probe.target in items else 0
        for probe, items in zip(probes, lists, strict=True)
    ]
    count = max(1, len(probes))
    known = live.items.rows({probe.target for probe in probes})
    return {
        "domain": live.domain,
        "version": version_name(live.version),
        "digest": live.digest,
        "index_generation": live.index_generation,
        "k": k,
        "probes": len(probes),
        "hr": sum(place > 0 for place in places) / count,
        "ndcg": sum(1 / math.log2(place + 1) for place in places if place) / count,
        "unknown_targets": sum(probe.target not in known for probe in probes),
        "distinct_items": len({item for items in lists for item in items}),
    }


def overlap(ours: Lists, theirs: Lists) -> float:
    """Return which share of the items two versions both recommend, on average over probes."""
    shares = [
        len(set(one) & set(other)) / max(1, min(len(one), len(other)))
        for one, other in zip(ours, theirs, strict=True)
        if one and other
    ]
    return sum(shares) / max(1, len(shares))
