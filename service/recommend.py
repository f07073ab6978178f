"""The request path: one live value, the history's rows, one batched query, and what was seen dropped."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import InvalidRequest, StateUnavailable
from service.live import LiveDomain, version_name
from service.schemas import RecommendRequest
from service.state import State


@dataclass(frozen=True, slots=True)
class Ranked:
    """Chosen rows and their scores (None in a fallback), and why a fallback was used."""

    rows: list[int]
    scores: list[float | None]
    fallback: str | None


async def recommend(live: LiveDomain, request: RecommendRequest, state: State) -> dict[str, Any]:
    """Answer a request from one live value.

    Raises:
        InvalidRequest: unknown items where the request forbids them; QueueFull.
    """
    started = time.perf_counter()
    row_of = live.catalog.row_of
    ids = request.history_ids()
    rows = [row_of[item_id] for item_id in ids if item_id in row_of]
    unknown = list(dict.fromkeys(item_id for item_id in ids if item_id not in row_of))
    if unknown and request.on_unknown == "error":
        raise InvalidRequest(
            f"{len(unknown)} items of the history are not in the catalog of {live.domain}",
            [{"loc": ["history"], "msg": f"unknown item {item_id!r}"} for item_id in unknown],
        )
    hidden = _hidden(request, rows, row_of)
    ranked = await _ranked(live, request, rows, hidden, known=bool(ids))
    length = live.engine.backbone.config.max_history
    answer: dict[str, Any] = {
        "recommendation_id": uuid.uuid4().hex,
        "domain": live.domain,
        "version": version_name(live.version),
        "digest": live.digest,
        "index_generation": live.index_generation,
        "items": await _items(live, request, ranked, state),
        "history_used": min(len(rows), length),
        "history_truncated": len(rows) > length,
        "unknown_items": unknown,
        "fallback": {"used": ranked.fallback is not None, "reason": ranked.fallback},
        "degraded": state.trouble() is not None,
    }
    if "timing" in request.include:
        answer["timing_ms"] = {"total": round(1000 * (time.perf_counter() - started), 3)}
    return answer


def _hidden(request: RecommendRequest, rows: Sequence[int], row_of: dict[str, int]) -> set[int]:
    """Rows that must not be recommended: the whole history, not only what the network sees, and what was named."""
    hidden = set(rows) if request.exclude.seen else set()
    return hidden.union(row_of[item_id] for item_id in request.exclude.item_ids if item_id in row_of)


async def _ranked(
    live: LiveDomain, request: RecommendRequest, rows: Sequence[int], hidden: set[int], *, known: bool
) -> Ranked:
    wanted = request.offset + request.k
    if not live.catalog.ids:
        return Ranked([], [], "empty_catalog")
    if rows:
        # More than asked for, so that enough is left when the hidden ones are dropped.
        scores, found = await live.engine.query(rows, live.slot, live.index, wanted + len(hidden))
        pairs = [(row, score) for row, score in zip(found.tolist(), scores.tolist(), strict=True) if row not in hidden]
        chosen = pairs[request.offset : wanted]
        return Ranked([row for row, _ in chosen], [score for _, score in chosen], None)
    reason = "all_unknown" if known else "empty_history"
    if request.fallback == "none":
        return Ranked([], [], reason)
    popular = [int(row) for row in live.catalog.by_popularity[: wanted + len(hidden)] if int(row) not in hidden]
    chosen_rows = popular[request.offset : wanted]
    return Ranked(chosen_rows, [None] * len(chosen_rows), reason)


async def _items(live: LiveDomain, request: RecommendRequest, ranked: Ranked, state: State) -> list[dict[str, Any]]:
    source = "model" if ranked.fallback is None else "popular"
    ids = live.catalog.ids
    items: list[dict[str, Any]] = [
        {"item_id": ids[row], "rank": request.offset + place, "score": score, "source": source}
        for place, (row, score) in enumerate(zip(ranked.rows, ranked.scores, strict=True), 1)
    ]
    if "metadata" in request.include:
        with suppress(StateUnavailable):  # the answer says that it is degraded
            found = await run_in_threadpool(state.items_by_id, live.domain, [item["item_id"] for item in items])
            for item in items:
                item["metadata"] = found[item["item_id"]].metadata if item["item_id"] in found else {}
    return items
