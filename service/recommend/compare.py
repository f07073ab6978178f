"""One history, several arms: what each recommends, how much they agree, what moved."""

from __future__ import annotations

from itertools import chain
from typing import Any

from service.live.table import Deployment, LiveDomain
from service.recommend.recommend import Reader, recommend
from service.version import version_name
from service.wire.requests import CompareRequest, RecommendRequest, StrategyArm, VersionArm
from service.wire.responses import Arm, Comparison, Moved, Recommendation, RecommendedItem

POPULAR = StrategyArm(strategy="popular")


async def compare(deployment: Deployment, request: CompareRequest, reader: Reader) -> Comparison:
    """Answer a history by every arm; all of them see the same deployment of the domain.

    Raises:
        VersionNotServable: an arm's version is not in memory; QueueFull.
    """
    chosen = request.arms or [
        *(VersionArm(version=version_name(value.version)) for value in deployment.warm),
        POPULAR,
    ]
    values = [
        deployment.get(arm.version) if isinstance(arm, VersionArm) else deployment.live
        for arm in chosen
    ]
    answers = [
        await recommend(value, _request(request, arm), reader)
        for value, arm in zip(values, chosen, strict=True)
    ]
    ids = list(dict.fromkeys(_ids(request)))
    known = deployment.live.items.rows(ids)
    columns = [
        _column(value, arm, answer)
        for value, arm, answer in zip(values, chosen, answers, strict=True)
    ]
    return {
        "domain": deployment.live.domain,
        "k": request.k,
        "arms": columns,
        "overlap_at_k": _overlap([column["items"] for column in columns]),
        "moved": _moved([column["items"] for column in columns]),
        "unknown_items": [item_id for item_id in ids if item_id not in known],
    }


def _ids(request: CompareRequest) -> list[str]:
    return [entry for entry in request.entries() if isinstance(entry, str)]


def _request(request: CompareRequest, arm: VersionArm | StrategyArm) -> RecommendRequest:
    # Popular items are the fallback's: nothing of the history is read, all of it is excluded.
    ids = _ids(request)
    given: dict[str, Any] = {"k": request.k, "include": list(request.include)}
    if isinstance(arm, StrategyArm):
        return RecommendRequest.model_validate(
            given | {"history": [], "exclude": {"item_ids": ids}}
        )
    return RecommendRequest.model_validate(given | {"history": request.history})


def _column(value: LiveDomain, arm: VersionArm | StrategyArm, answer: Recommendation) -> Arm:
    modelled = isinstance(arm, VersionArm)
    return {
        "name": str(version_name(value.version)) if modelled else "popular",
        "version": version_name(value.version) if modelled else None,
        "index_generation": value.index_generation,
        "items": answer["items"],
        "fallback": answer["fallback"] if modelled else {"used": False, "reason": None},
    }


def _overlap(lists: list[list[RecommendedItem]]) -> list[list[float]]:
    sets = [{item["item_id"] for item in items} for items in lists]
    return [[len(one & other) / max(len(one), len(other), 1) for other in sets] for one in sets]


def _moved(lists: list[list[RecommendedItem]]) -> list[Moved]:
    ranks = [{item["item_id"]: item["rank"] for item in items} for items in lists]
    rows = [
        Moved(item_id=item_id, ranks=[column.get(item_id) for column in ranks])
        for item_id in dict.fromkeys(chain.from_iterable(ranks))
    ]
    moved = [row for row in rows if len(set(row["ranks"])) > 1]
    return sorted(moved, key=lambda row: min(rank for rank in row["ranks"] if rank is not None))
