"""The user encoder for everybody: rows of many domains in one forward, each with its own adapter.

Requests are collected while the event loop works off what has arrived, then run as one batch: no timer, no thread
between a request and its answer. Adapters live in a table of slots; a slot is used again only when the last live
value that names it is gone.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import QueueFull
from service.index import ExactIndex
from transrec.adapters import AdapterBank, SideAdapter
from transrec.backbone import Backbone
from transrec.window import pad_left

MAX_BATCH = 64

Floats = NDArray[np.float32]
Found = tuple[Floats, NDArray[np.int64]]


class Slot:
    """A row of the adapter table, held by a live value."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass(frozen=True, slots=True)
class History:
    """What is encoded: rows of the index's vectors, oldest first, and whose adapter reads them."""

    rows: Sequence[int]
    slot: Slot
    index: ExactIndex


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
        observe: told the rows and the number of different adapters of each batch.
    """

    def __init__(
        self, backbone: Backbone, *, slots: int, max_queue: int, observe: Callable[[int, int], None] | None = None
    ) -> None:
        self.backbone = backbone
        self._encoder = backbone.model.user_encoder
        self._bank = AdapterBank(backbone.shape.user_blocks, backbone.shape.user_width, 1, slots).to(backbone.device)
        self._free = deque(range(1, slots))  # slot 0 stays zeros: none
        self._none = Slot(0)
        self._writing = threading.Lock()
        self._waiting: deque[Query] = deque()
        self._max_queue = max_queue
        self._scheduled = False
        self._observe = observe

    @property
    def slots_in_use(self) -> int:
        """Adapters in the table."""
        return self._bank.slots - 1 - len(self._free)

    def take_slot(self, adapter: SideAdapter | None) -> Slot:
        """Write a user-side adapter into a free row; safe from any thread while batches run."""
        if adapter is None or len(adapter) == 0:
            return self._none
        with self._writing:
            if not self._free or adapter.spec.hidden > self._bank.hidden:
                self._grow(adapter.spec.hidden)
            number = self._free.popleft()
            self._bank.write(number, adapter)
        slot = Slot(number)
        weakref.finalize(slot, self._free.append, number).atexit = False
        return slot

    async def query(self, rows: Sequence[int], slot: Slot, index: ExactIndex, k: int) -> Found:
        """Encode a history, given as rows of `index.vectors`, and search: scores and rows, best first.

        Raises:
            QueueFull: too many wait; FloatingPointError: the adapter's weights overflow on this history.
        """
        if len(self._waiting) >= self._max_queue:
            raise QueueFull(len(self._waiting))
        loop = asyncio.get_running_loop()
        query = Query(History(rows, slot, index), k, loop.create_future())
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
                self._observe(len(batch), len({query.history.slot.number for query in batch}))
            _search(batch, users)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the requests that wait
            for query in batch:
                if not query.answer.done():
                    query.answer.set_exception(error)

    @torch.inference_mode()
    def encode(self, batch: Sequence[History]) -> Floats:
        """Encode histories to user vectors [B, d] in one forward; safe from any thread."""
        window = min(self._encoder.shape.history, max(len(history.rows) for history in batch))
        vectors = np.zeros((len(batch), window, self._encoder.shape.width), np.float32)
        places, mask = pad_left([history.rows for history in batch], window)
        for number, history in enumerate(batch):
            kept = mask[number]
            vectors[number, kept] = history.index.vectors[places[number, kept]]
        bank = self._bank  # read after the histories: it is at least as new as their slots
        device = self.backbone.device
        slots = torch.tensor([history.slot.number for history in batch], device=device)
        adapt = bank.rows(slots) if slots.any() else None
        users = self._encoder(
            torch.from_numpy(vectors).to(device), torch.from_numpy(mask).to(device), adapt, last_only=True
        )
        result: Floats = users.cpu().numpy()
        return result

    def _grow(self, hidden: int) -> None:
        """Make a larger table beside and switch; a batch that runs keeps the one it read."""
        old = self._bank
        slots = old.slots if self._free else old.slots * 2
        bank = old.resized(slots, max(hidden, old.hidden))
        self._bank = bank
        self._free.extend(range(old.slots, slots))


def _search(batch: Sequence[Query], users: Floats) -> None:
    by_index: dict[int, list[int]] = {}
    finite = np.asarray(np.isfinite(users).all(axis=1))
    for place, query in enumerate(batch):
        if finite[place]:
            by_index.setdefault(id(query.history.index), []).append(place)
        else:  # FAISS would answer such a vector with one row, k times
            query.answer.set_exception(FloatingPointError("the user vector of this history is not finite"))
    for places in by_index.values():
        index = batch[places[0]].history.index
        scores, rows = index.search(users[places], max(batch[place].k for place in places))
        for line, place in enumerate(places):
            query = batch[place]
            query.answer.set_result((scores[line, : query.k], rows[line, : query.k]))
