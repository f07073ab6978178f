"""A budget of bytes for what domains answer from: those that nobody asks for make room, and come back on demand.

What goes is the pages of vectors, index and ids; the adapters stay in their slots and, of what is mapped files only,
the value itself, so that coming back is one assignment where nothing was heard of the domain meanwhile. A domain with a
pinned version never goes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from service.live.table import LiveTable, Standing

LOADER_THREADS = 4

_log = logging.getLogger("swaprec")


class Residency:
    """Keeps the live table within its budget.

    Args:
        live: whose values take memory.
        budget: bytes; 0 is no limit. One domain that is larger than all of it is served all the same.
        observe: called with the seconds that each return to memory took.
    """

    def __init__(self, live: LiveTable, budget: int, observe: Callable[[float], None]) -> None:
        self._live, self.budget, self._observe = live, budget, observe
        self._pool = ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="residency")
        self._coming: dict[str, asyncio.Future[Standing]] = {}
        self._settling = threading.Lock()
        self.hits = self.misses = self.evictions = 0

    def has_room(self) -> bool:
        """Whether a domain that nobody asked for yet should be in memory."""
        return not self.budget or self._live.bytes < self.budget

    def settle(self, domain: str) -> None:
        """Make room by what was asked for longest ago; `domain`, which has just come, stays."""
        if not self.budget or self._live.bytes <= self.budget:
            return
        with self._settling:
            while self._live.bytes > self.budget:
                idle = self._live.idlest(besides=domain)
                if idle is None:
                    return
                if self._live.rest(idle):
                    self.evictions += 1
                    _log.debug("%s rests: %d bytes are in memory", idle, self._live.bytes)

    async def standing(self, domain: str) -> Standing:
        """Return where a domain stands, bringing it back if it rests; however many ask for it, it comes once.

        Raises:
            As `LiveTable.get`.
        """
        known = self._live.asked(domain)
        if known is not None:
            self.hits += 1
            return known
        started = time.perf_counter()
        back = self._live.revive(domain)
        if back is not None:
            self.settle(domain)
            self._returned(started)
            return back
        coming = self._coming.get(domain)
        if coming is None:
            loop = asyncio.get_running_loop()
            coming = self._coming[domain] = loop.run_in_executor(self._pool, self._brought, domain)
            coming.add_done_callback(lambda _: self._coming.pop(domain))
        return await asyncio.shield(coming)

    def close(self) -> None:
        """Stop."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _brought(self, domain: str) -> Standing:
        rested, started = self._live.rests(domain), time.perf_counter()
        standing = self._live.get(domain)
        if rested:
            self._returned(started)
        return standing

    def _returned(self, started: float) -> None:
        self.misses += 1
        self._observe(time.perf_counter() - started)
