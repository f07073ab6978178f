"""The queue before an encoder that is fastest in batches.

Queries are collected while the event loop works off what has arrived, then run as one batch on the
loop itself: no timer, and no thread between a query and its answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.engine.engine import Found, History
from service.engine.search import search
from service.errors import QueueFull
from transrec.arrays import Floats

MAX_BATCH = 64


@dataclass(frozen=True, slots=True)
class Query:
    """One request's share of a batch, and how many answers it wants."""

    history: History
    k: int
    answer: asyncio.Future[Found]


class QueryQueue:
    """Queries that wait for a batch. It belongs to one event loop.

    Args:
        encode: encodes a batch of histories to user vectors [B, d].
        max_queue: queries that may wait.
        observe: receives the rows and the number of different adapters of each batch.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[History]], Floats],
        max_queue: int,
        observe: Callable[[int, int], None] | None = None,
    ) -> None:
        self._encode = encode
        self._max_queue = max_queue
        self._observe = observe
        self._waiting: deque[Query] = deque()
        self._scheduled = False

    async def query(self, history: History, k: int) -> Found:
        """Wait for the answer to a query: scores and rows, best first.

        Raises:
            QueueFull: too many wait; FloatingPointError: the user vector is not finite.
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
        # A client that left has no answer to wait for.
        batch = [query for query in taken if not query.answer.done()]
        if self._waiting:
            self._schedule(loop)
        if not batch:
            return
        try:
            self._answer(batch)
        except Exception as error:  # noqa: BLE001 - any error belongs to the requests that wait
            for query in batch:
                if not query.answer.done():
                    query.answer.set_exception(error)

    def _answer(self, batch: Sequence[Query]) -> None:
        users = self._encode([query.history for query in batch])
        if self._observe is not None:
            self._observe(len(batch), len({id(query.history.slot) for query in batch}))
        for place, found in search([(query.history.items, query.k) for query in batch], users):
            if isinstance(found, FloatingPointError):
                batch[place].answer.set_exception(found)
            else:
                batch[place].answer.set_result(found)
