"""Items that no catalog holds, given as text or picture in a request: encoded as the domain's own
items are.

They run in a thread of their own, so that nobody's recommendation waits for an item encoder.
Whatever waits runs as one batch, rows of many domains with their own adapters. An adapter's item
side is read from the store when it is first needed, and the ones used last are kept.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.engine.engine import Engine
from service.engine.slots import Slot, SlotTable
from service.errors import QueueFull
from service.live.table import LiveDomain
from service.version import Version
from transrec.adapters import Adapt, Adapter, Paired
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.devices import TORCH_DTYPES, Dtype
from transrec.inputs import BATCH_TOKENS, TextInputs, batches, take

MAX_BATCH = 64
MAX_CACHED_VERSIONS = 32
MAX_CACHED_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BoundAdapter:
    """A version's item side, bound to a slot of the table, and what runs after the encoder."""

    slot: Slot
    outside: Adapt | None
    size: int = 0


@dataclass(frozen=True, slots=True)
class ColdQuery:
    """One request's contents."""

    live: LiveDomain
    contents: Sequence[Content]
    answer: asyncio.Future[Floats]
    loop: asyncio.AbstractEventLoop


class ColdItems:
    """One lane for each backbone, made when it is first asked.

    Args:
        adapter: reads the adapter of a domain's version.
        max_queue: requests that may wait.
    """

    def __init__(self, adapter: Callable[[str, Version], Adapter | None], max_queue: int) -> None:
        self._adapter = adapter
        self._max_queue = max_queue
        self._lanes: dict[int, Lane] = {}

    async def vectors(self, live: LiveDomain, contents: Sequence[Content]) -> Floats:
        """Encode contents with the item side of a live value: [n, d].

        Raises:
            QueueFull: too many wait; VersionNotFound: the version was deleted meanwhile.
        """
        lane = self._lanes.get(id(live.engine))
        if lane is None:  # on the event loop: nobody else makes one meanwhile
            lane = self._lanes[id(live.engine)] = Lane(live.engine, self._adapter, self._max_queue)
        return await lane.vectors(live, contents)

    def close(self) -> None:
        """Let the threads end."""
        for lane in self._lanes.values():
            lane.close()


class Lane:
    """The item encoder of one backbone, its adapters in use and the queue before it."""

    def __init__(
        self, engine: Engine, adapter: Callable[[str, Version], Adapter | None], max_queue: int
    ) -> None:
        self.engine = engine
        self._backbone = engine.backbone
        self._adapter = adapter
        self._max_queue = max_queue
        self._waiting: deque[ColdQuery] = deque()
        self._lock = threading.Lock()
        self._scheduled = False
        self._thread = ThreadPoolExecutor(1, "cold")
        self._tables: dict[Dtype, SlotTable] = {}
        self._kept: OrderedDict[tuple[str, str, Dtype], BoundAdapter] = OrderedDict()

    async def vectors(self, live: LiveDomain, contents: Sequence[Content]) -> Floats:
        """Wait for the vectors of one request's contents."""
        loop = asyncio.get_running_loop()
        ask = ColdQuery(live, contents, loop.create_future(), loop)
        with self._lock:
            if len(self._waiting) >= self._max_queue:
                raise QueueFull(len(self._waiting))
            self._waiting.append(ask)
            if not self._scheduled:
                self._scheduled = True
                self._thread.submit(self._run)
        return await ask.answer

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while True:
            with self._lock:
                taken = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
                if not taken:
                    self._scheduled = False
                    return
            try:
                self._answer([ask for ask in taken if not ask.answer.done()])
            except Exception as error:  # noqa: BLE001 - the lane must go on, and nobody may wait for ever
                for ask in taken:
                    _deliver(ask, error)

    def _answer(self, asks: Sequence[ColdQuery]) -> None:
        ready: list[tuple[ColdQuery, BoundAdapter]] = []
        for ask in asks:
            try:
                ready.append((ask, self._bound(ask.live)))
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the request that waits
                _deliver(ask, error)
        for dtype in {ask.live.dtype for ask, _ in ready}:
            group = [(ask, bound) for ask, bound in ready if ask.live.dtype == dtype]
            try:
                found = self._encode(dtype, group)
            except Exception as error:  # noqa: BLE001 - the same
                for ask, _ in group:
                    _deliver(ask, error)
                continue
            for ask, _ in group:
                count = len(ask.contents)
                _deliver(ask, found[:count])
                found = found[count:]

    @torch.inference_mode()
    def _encode(self, dtype: Dtype, asks: Sequence[tuple[ColdQuery, BoundAdapter]]) -> Floats:
        """Encode all contents of some requests, in order: [n, d]."""
        contents = [content for ask, _ in asks for content in ask.contents]
        bound = [bound for ask, bound in asks for _ in ask.contents]
        encoder = self._backbone.item_encoder(dtype)
        project = self._backbone.model.project
        vectors = np.empty((len(contents), self._backbone.config.width), np.float32)
        # Each of a bounded number of tokens.
        for places, inputs in _inputs(self._backbone, contents):
            for rows, adapt, outside in self._groups(dtype, [bound[place] for place in places]):
                pooled = encoder(take(inputs, rows), adapt).float()
                vectors[places[rows]] = project(pooled, outside).cpu().numpy()
        return vectors

    def _groups(
        self, dtype: Dtype, bound: Sequence[BoundAdapter]
    ) -> Iterator[tuple[NDArray[np.int64], Adapt | None, Adapt | None]]:
        """Yield rows that run in one forward, what adapts them, and what runs after the encoder."""
        own: dict[int, list[int]] = {}
        for place, one in enumerate(bound):
            own.setdefault(0 if one.slot.own is None else id(one), []).append(place)
        for name, places in own.items():
            rows = np.array(places, np.int64)
            if name != 0:
                yield rows, bound[places[0]].slot.own, bound[places[0]].outside
                continue
            slots = [bound[place].slot.number for place in places]
            if not any(slots):
                yield rows, None, None
                continue
            order, adapt = self._table(dtype).bank.blocks(slots)
            yield rows[order], adapt, None

    def _bound(self, live: LiveDomain) -> BoundAdapter:
        key = (live.domain, live.digest, live.dtype)
        bound = self._kept.get(key)
        if bound is None:
            adapter = self._adapter(live.domain, live.version)
            bound = self._kept[key] = self._bind(live.dtype, adapter)
            while len(self._kept) > 1 and self._keeps_too_much():
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return bound

    def _keeps_too_much(self) -> bool:
        return (
            len(self._kept) > MAX_CACHED_VERSIONS
            or sum(bound.size for bound in self._kept.values()) > MAX_CACHED_BYTES
        )

    def _bind(self, dtype: Dtype, adapter: Adapter | None) -> BoundAdapter:
        if adapter is None:
            return BoundAdapter(Slot(0), None)
        outside = adapter.item.like(self._backbone.model.item_encoder)
        size = 4 * adapter.item.count_served()
        if isinstance(adapter.item, Paired):
            return BoundAdapter(
                Slot(0, adapter.item.for_serving(self._backbone.item_encoder(dtype))), outside, size
            )
        return BoundAdapter(self._table(dtype).take(adapter.item), outside, size)

    def _table(self, dtype: Dtype) -> SlotTable:
        if dtype not in self._tables:
            shape = self._backbone.shape.items[0]
            encoder = self._backbone.item_encoder(dtype)
            self._tables[dtype] = SlotTable(
                encoder, shape, 2, self._backbone.device, TORCH_DTYPES[dtype]
            )
        return self._tables[dtype]


def _inputs(
    backbone: Backbone, contents: Sequence[Content]
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Yield places and the encoder's inputs:
    texts of any length together, padded; others by their groups.
    """
    inputs = backbone.inputs(contents)
    if not isinstance(inputs, TextInputs):
        for places in batches(inputs):
            yield places, inputs.load(places, backbone.device)
        return
    size = max(1, BATCH_TOKENS // int(inputs.tokens.max()))
    for start in range(0, len(contents), size):
        places = np.arange(start, min(start + size, len(contents)))
        yield places, inputs.padded(places, backbone.device)


def _deliver(ask: ColdQuery, found: Floats | Exception) -> None:
    """Hand an answer to the event loop that waits for it."""

    def deliver() -> None:
        if ask.answer.done():  # its client left
            return
        if isinstance(found, Exception):
            ask.answer.set_exception(found)
        else:
            ask.answer.set_result(found)

    with suppress(RuntimeError):  # the service has stopped meanwhile
        ask.loop.call_soon_threadsafe(deliver)
