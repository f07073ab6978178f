"""The request path: one live value,
the history's rows, one batched query, and what was seen dropped.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from starlette.concurrency import run_in_threadpool

from service.access.pace import Pace
from service.content.item_reader import raw_content
from service.content.pictures import PictureThreads, PixelBudget
from service.engine.engine import History
from service.errors import InvalidRequest, StateUnavailable
from service.live.table import LiveDomain
from service.recommend.cold import ColdItems
from service.recommend.identity import identify
from service.state import Items, State
from service.wire.requests import RawItem, RecommendRequest
from service.wire.responses import (
    FallbackReason,
    Recommendation,
    RecommendedItem,
    SimilarItem,
    Timing,
)
from service.wire.validation import MAX_LISTED, ErrorPlace, PlainError, invalid_request, plain_error
from transrec.arrays import Floats
from transrec.content import Content


@dataclass(frozen=True, slots=True)
class Ranked:
    """Chosen rows and their scores (None in a fallback), and why a fallback was used."""

    rows: list[int]
    scores: list[float | None]
    fallback: FallbackReason | None


@dataclass(frozen=True, slots=True)
class Reader:
    """What a request needs beside the live value: metadata, the encoder of items that no catalog
    has, and pictures.

    `pace` is that of evaluations, which ask many such requests.
    """

    state: State
    cold: ColdItems
    pace: Pace
    pictures: PictureThreads = field(default_factory=PictureThreads)


@dataclass(frozen=True, slots=True)
class KnownHistory:
    """A history as far as the domain knows it:
    `entries`, oldest first, are rows or items that no catalog has.
    """

    entries: list[int | RawItem]
    unknown: list[str]

    @property
    def rows(self) -> list[int]:
        """The rows among them."""
        return [entry for entry in self.entries if isinstance(entry, int)]


async def recommend(live: LiveDomain, request: RecommendRequest, reader: Reader) -> Recommendation:
    """Answer a request from one live value.

    Raises:
        InvalidRequest: unknown items where the request forbids them, or a raw item that cannot be
            read; QueueFull.
    """
    started = time.perf_counter()
    known = _known(request, live)
    if known.unknown and request.on_unknown == "error":
        raise InvalidRequest(
            f"{len(known.unknown)} items of the history are not in the catalog of {live.domain}",
            [
                {"loc": ["history"], "msg": f"unknown item {item_id!r}"}
                for item_id in known.unknown[:MAX_LISTED]
            ],
        )
    excluded = _excluded_rows(request, known.rows, live)
    ranked = await _ranked(live, request, known, excluded, reader)
    length = live.engine.backbone.config.max_history
    return {
        "recommendation_id": uuid.uuid4().hex,
        **identify(live),
        "items": await _items(live, request, ranked, reader.state),
        "history_used": min(len(known.entries), length),
        "history_truncated": len(known.entries) > length,
        "unknown_items": known.unknown,
        "fallback": {"used": ranked.fallback is not None, "reason": ranked.fallback},
        "degraded": reader.state.trouble() is not None,
        **_timing(request, started),
    }


def _timing(request: RecommendRequest, started: float) -> Timing:
    if "timing" not in request.include:
        return {}
    return {"timing_ms": {"total": round(1000 * (time.perf_counter() - started), 3)}}


def _known(request: RecommendRequest, live: LiveDomain) -> KnownHistory:
    given = request.entries()
    row_of = live.items.rows([entry for entry in given if isinstance(entry, str)])
    entries: list[int | RawItem] = []
    unknown: dict[str, None] = {}
    for entry in given:
        row = row_of.get(entry) if isinstance(entry, str) else entry
        if row is not None:
            entries.append(row)
        elif isinstance(entry, str):
            unknown[entry] = None
    return KnownHistory(entries, list(unknown))


async def _history(
    live: LiveDomain, known: KnownHistory, given: Sequence[object], reader: Reader
) -> History:
    """Return what the user encoder reads; raw items that it would not see are not encoded."""
    seen = known.entries[-live.engine.backbone.config.max_history :]
    raw = [entry for entry in seen if not isinstance(entry, int)]
    if not raw:
        return History(known.rows, live.slot, live.items)
    sent_at = {id(entry): place for place, entry in enumerate(given)}
    locs = [("history", sent_at[id(entry)]) for entry in raw]
    places = iter(range(len(raw)))
    rows = [entry if isinstance(entry, int) else -1 - next(places) for entry in seen]
    return History(rows, live.slot, live.items, await raw_vectors(live, raw, locs, reader))


async def raw_vectors(
    live: LiveDomain, raw: Sequence[RawItem], locs: Sequence[ErrorPlace], reader: Reader
) -> Floats:
    """Encode raw items: [n, d]. Pictures wait for their domain's place, until they are
    encoded.

    Args:
        live: whose backbone reads them.
        raw: the items.
        locs: where each of them stands in the body.
        reader: what looks at pictures, and encodes.

    Raises:
        InvalidRequest: with every one that cannot be read; QueueFull.
    """
    pictures = reader.pictures
    read = partial(_raw_contents, live, raw, locs, pictures.of_request())
    if all(entry.image_b64 is None for entry in raw):
        return await reader.cold.vectors(live, await run_in_threadpool(read))
    async with pictures.place(live.domain):
        return await reader.cold.vectors(live, await pictures.run(read))


def _raw_contents(
    live: LiveDomain, raw: Sequence[RawItem], locs: Sequence[ErrorPlace], pixels: PixelBudget
) -> list[Content]:
    found: list[PlainError] = []
    contents: list[Content] = []
    for entry, loc in zip(raw, locs, strict=True):
        try:
            contents.append(raw_content(live.engine.backbone, entry, pixels))
        except ValueError as error:
            found.append(plain_error(loc, str(error)))
    if found:
        raise invalid_request(found)
    return contents


def _excluded_rows(request: RecommendRequest, rows: Sequence[int], live: LiveDomain) -> set[int]:
    """Rows that must not be recommended:
    the whole history, not only what the network sees, and what was named.
    """
    excluded = set(rows) if request.exclude.seen else set()
    named = request.exclude.item_ids
    return excluded.union(live.items.rows(named).values()) if named else excluded


async def _ranked(
    live: LiveDomain,
    request: RecommendRequest,
    known: KnownHistory,
    excluded: set[int],
    reader: Reader,
) -> Ranked:
    wanted = request.offset + request.k
    if not len(live.items):
        return Ranked([], [], "empty_catalog")
    if known.entries:
        history = await _history(live, known, request.history, reader)
        # More than asked for, so that enough is left when the excluded ones are dropped.
        scores, found = await live.engine.query(history, wanted + len(excluded))
        pairs = [
            (row, score)
            for row, score in zip(found.tolist(), scores.tolist(), strict=True)
            if row not in excluded
        ]
        chosen = pairs[request.offset : wanted]
        return Ranked([row for row, _ in chosen], [score for _, score in chosen], None)
    reason: FallbackReason = "all_unknown" if known.unknown else "empty_history"
    if request.fallback == "none":
        return Ranked([], [], reason)
    chosen_rows = live.items.popular(wanted, excluded)[request.offset :]
    return Ranked(chosen_rows, [None] * len(chosen_rows), reason)


async def _items(
    live: LiveDomain, request: RecommendRequest, ranked: Ranked, state: Items
) -> list[RecommendedItem]:
    source: Literal["model", "popular"] = "model" if ranked.fallback is None else "popular"
    ids = live.items.ids(ranked.rows)
    items: list[RecommendedItem] = [
        {"item_id": item_id, "rank": request.offset + place, "score": score, "source": source}
        for place, (item_id, score) in enumerate(zip(ids, ranked.scores, strict=True), 1)
    ]
    if "metadata" in request.include:
        await add_metadata(live.domain, items, state)
    return items


async def add_metadata(
    domain: str, items: Sequence[RecommendedItem | SimilarItem], state: Items
) -> None:
    """Add to items what is kept of them;
    where state does not answer they stay without, and the answer says so.
    """
    with suppress(StateUnavailable):
        found = await run_in_threadpool(
            state.items_by_id, domain, [item["item_id"] for item in items]
        )
        for item in items:
            item["metadata"] = found[item["item_id"]].metadata if item["item_id"] in found else {}
