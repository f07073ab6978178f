"""Vectors of items and of raw texts and pictures, and what lies near them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from starlette.concurrency import run_in_threadpool

from service.errors import ItemNotFound
from service.live.table import LiveDomain
from service.recommend.identity import identify
from service.recommend.recommend import Reader, add_metadata, raw_vectors
from service.wire.requests import EmbedRequest, HistoryItem, RawItem, SimilarRequest
from service.wire.responses import Embedded, Similar, SimilarItem
from service.wire.validation import ErrorPlace
from transrec.arrays import Floats


async def embed(live: LiveDomain, request: EmbedRequest, reader: Reader) -> Embedded:
    """Return the vectors of items and of raw items under a live value.

    Raises:
        ItemNotFound: an id that the catalog lacks; InvalidRequest: a raw item that cannot be read;
            QueueFull.
    """
    entries = [
        entry.item_id if isinstance(entry, HistoryItem) else entry for entry in request.items
    ]
    vectors = await _vectors(live, entries, reader, "items")
    return {
        **identify(live),
        "vectors": [[float(value) for value in vector] for vector in vectors],
    }


async def similar(live: LiveDomain, request: SimilarRequest, reader: Reader) -> Similar:
    """Return the items whose vectors point most nearly the same way, the best first; the query
    itself is left out.

    Raises:
        ItemNotFound, InvalidRequest, QueueFull: as `embed`.
    """
    query: str | RawItem = request.item_id or RawItem(
        text=request.text, image_b64=request.image_b64
    )
    [vector] = await _vectors(live, [query], reader)
    own = live.items.rows([query])[query] if isinstance(query, str) else None
    rows, scores = await run_in_threadpool(live.items.nearest, vector, request.k, own)
    items: list[SimilarItem] = [
        {"item_id": item_id, "rank": rank, "score": score}
        for rank, (item_id, score) in enumerate(zip(live.items.ids(rows), scores, strict=True), 1)
    ]
    if "metadata" in request.include:
        await add_metadata(live.domain, items, reader.state)
    return {
        **identify(live),
        "items": items,
    }


async def _vectors(
    live: LiveDomain, entries: Sequence[str | RawItem], reader: Reader, *at: str
) -> Floats:
    """Return a vector for each entry; `at` is where their list stands in the body, if it is one."""
    row_of = live.items.rows([entry for entry in entries if isinstance(entry, str)])
    missing = [entry for entry in entries if isinstance(entry, str) and entry not in row_of]
    if missing:
        raise ItemNotFound(f"{live.domain} has no item {', '.join(map(repr, missing[:10]))}")
    vectors = np.empty((len(entries), live.items.width), np.float32)
    raw = [(place, entry) for place, entry in enumerate(entries) if isinstance(entry, RawItem)]
    if raw:
        locs: list[ErrorPlace] = [(*at, place) if at else () for place, _ in raw]
        vectors[[place for place, _ in raw]] = await raw_vectors(
            live, [entry for _, entry in raw], locs, reader
        )
    for place, entry in enumerate(entries):
        if isinstance(entry, str):
            vectors[place] = live.items.vectors([row_of[entry]])[0]
    return vectors
