"""The user encoder for everybody: rows of many domains in one forward, each with its own adapter.

Requests are collected while the event loop works off what has arrived, then run as one batch: no timer, no thread
between a request and its answer. Bottlenecks live in a table, gathered row by row; a row of the table is used again
only when the last live value that names it is gone. Adapters of other kinds run as groups of their own in the batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from service.catalog.live_items import LiveItems
from service.engine.slots import Slot, SlotTable
from service.errors import QueueFull
from transrec.adapters import Adapt, SideAdapter
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.window import pad_left

MAX_BATCH = 64

Found = tuple[Floats, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class History:
    """What is encoded: rows of a value's items, oldest first, and whose adapter reads them.

    Row −1 − j stands for `fresh[j]`, the vector of something that the catalog does not hold.
    """

    rows: Sequence[int]
    slot: Slot
    items: LiveItems
    fresh: Floats | None = None

    def vectors(self, rows: NDArray[np.int64]) -> Floats:
        """Look up `rows [n]`: vectors [n, d]."""
        if self.fresh is None:
            return self.items.vectors(rows)
        own = rows < 0
        found = np.empty((len(rows), self.items.width), np.float32)
        found[~own], found[own] = self.items.vectors(rows[~own]), self.fresh[-1 - rows[own]]
        return found


@dataclass(frozen=True, slots=True)
class Query:
    """One request's share of a batch, and how many answers it wants."""

    history: History
    k: int
    answer: asyncio.Future[Found]


class Engine:
    """One backbone's user encoder, its adapter table and the queue before it.

    Args:
        backbone: frozen.
        slots: adapters the table begins with; it doubles when they are taken.
        max_queue: queries that may wait.
        observe: called with the rows and the number of different adapters of each batch.
    """

    def __init__(
        self, backbone: Backbone, *, slots: int, max_queue: int, observe: Callable[[int, int], None] | None = None
    ) -> None:
        self.backbone = backbone
        self._encoder = backbone.model.user_encoder
        self._table = SlotTable(self._encoder, backbone.shape.user, slots, backbone.device)
        self._waiting: deque[Query] = deque()
        self._max_queue = max_queue
        self._scheduled = False
        self._observe = observe

    @property
    def slots_in_use(self) -> int:
        """Adapters in the table."""
        return self._table.in_use

    def take_slot(self, adapter: SideAdapter | None) -> Slot:
        """Make room for a user side; safe from any thread while batches run."""
        return self._table.take(adapter)

    async def query(self, history: History, k: int) -> Found:
        """Encode a history and search its index: scores and rows, best first.

        Raises:
            QueueFull: too many wait; FloatingPointError: the adapter's weights overflow on this history.
        """
        if len(self._waiting) >= self._max_queue:
            raise QueueFull(len(self._waiting))
        loop = asyncio.get_running_loop()
        query = Query(history, k, loop.create_future())
        self._waiting.append(query)
        self._schedule(loop)
        return await query.answer

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        taken = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        batch = [query for query in taken if not query.answer.done()]  # a client that left has no answer to wait for
        if self._waiting:
            self._schedule(loop)
        if not batch:
            return
        try:
            users = self.encode([query.history for query in batch])
            if self._observe is not None:
                self._observe(len(batch), len({id(query.history.slot) for query in batch}))
            _search(batch, users)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the requests that wait
            for query in batch:
                if not query.answer.done():
                    query.answer.set_exception(error)

    @torch.inference_mode()
    def encode(self, batch: Sequence[History]) -> Floats:
        """Encode histories to user vectors [B, d]; safe from any thread."""
        window = min(self._encoder.shape.history, max(len(history.rows) for history in batch))
        users = np.empty((len(batch), self._encoder.shape.width), np.float32)
        for places, adapt in self._groups(batch):
            users[places] = self._forward([batch[place] for place in places], window, adapt)
        return users

    def _forward(self, histories: Sequence[History], window: int, adapt: Adapt | None) -> Floats:
        """Run the newest `window` items of histories through the encoder, all with one `adapt`."""
        vectors = np.zeros((len(histories), window, self._encoder.shape.width), np.float32)
        places, mask = pad_left([history.rows for history in histories], window)
        for number, history in enumerate(histories):
            kept = mask[number]
            vectors[number, kept] = history.vectors(places[number, kept])
        device = self.backbone.device
        inputs, real = torch.from_numpy(vectors).to(device), torch.from_numpy(mask).to(device)
        found: Floats = self._encoder(inputs, real, adapt, last_only=True).cpu().numpy()
        return found

    def _groups(self, batch: Sequence[History]) -> Iterator[tuple[list[int], Adapt | None]]:
        """Yield the places of rows that run in one forward, in the order in which they run, and what adapts them."""
        own: dict[int, list[int]] = {}
        gathered = []
        for place, history in enumerate(batch):
            if history.slot.own is None:
                gathered.append(place)
            else:
                own.setdefault(id(history.slot), []).append(place)
        for places in own.values():
            yield places, batch[places[0]].slot.own
        if gathered:
            bank = self._table.bank  # read after the histories: it is at least as new as their slots
            slots = [batch[place].slot.number for place in gathered]
            order, adapt = bank.arrange(slots) if any(slots) else (None, None)
            yield gathered if order is None else [gathered[place] for place in order], adapt


def _search(batch: Sequence[Query], users: Floats) -> None:
    by_items: dict[int, list[int]] = {}
    finite = np.asarray(np.isfinite(users).all(axis=1))
    for place, query in enumerate(batch):
        if finite[place]:
            by_items.setdefault(id(query.history.items), []).append(place)
        else:  # FAISS would answer such a vector with one row, k times
            query.answer.set_exception(FloatingPointError("the user vector of this history is not finite"))
    for places in by_items.values():
        items = batch[places[0]].history.items
        scores, rows = items.search(users[places], max(batch[place].k for place in places))
        for line, place in enumerate(places):
            query = batch[place]
            query.answer.set_result((scores[line, : query.k], rows[line, : query.k]))
