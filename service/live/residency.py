"""An LRU cache of deployments under a budget of bytes: the least recently used is evicted, and
loaded on demand.

An eviction drops the pages of vectors, index and ids. The adapters stay in their slots. A
deployment of mapped files only stays too, so that restoring it is one assignment unless the domain
changed. A domain with a pinned version is never evicted.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from service.live.table import Deployment, LiveTable

LOADER_THREADS = 4

_log = logging.getLogger("swaprec")


class Residency:
    """Keeps the live table within its budget.

    Args:
        live: whose values take memory.
        budget: bytes; 0 is no limit. One domain that is larger than all of it is served all the
            same.
        observe: called with the seconds that each load took.
    """

    def __init__(self, live: LiveTable, budget: int, observe: Callable[[float], None]) -> None:
        self._live = live
        self.budget = budget
        self._observe = observe
        self._pool = ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="residency")
        self._loads: dict[str, asyncio.Future[Deployment]] = {}
        self._evicting = threading.Lock()
        self.hits = self.misses = self.evictions = 0

    def has_room(self) -> bool:
        """Whether a domain that was never requested should be in memory."""
        return not self.budget or self._live.bytes < self.budget

    def enforce_budget(self, domain: str) -> None:
        """Evict the least recently used domains until
        the budget is kept; `domain`, just loaded, stays.
        """
        if not self.budget or self._live.bytes <= self.budget:
            return
        with self._evicting:
            while self._live.bytes > self.budget:
                oldest = self._live.least_recent(excluding=domain)
                if oldest is None:
                    return
                if self._live.evict(oldest):
                    self.evictions += 1
                    _log.debug("%s rests: %d bytes are in memory", oldest, self._live.bytes)

    async def get(self, domain: str) -> Deployment:
        """Return the deployment of a domain, loading it if it is evicted; concurrent requests share
        one load.

        Raises:
            As `LiveTable.get`.
        """
        known = self._live.touch(domain)
        if known is not None:
            self.hits += 1
            return known
        started = time.perf_counter()
        restored = self._live.restore(domain)
        if restored is not None:
            self.enforce_budget(domain)
            self._count_miss(started)
            return restored
        load = self._loads.get(domain)
        if load is None:
            loop = asyncio.get_running_loop()
            load = self._loads[domain] = loop.run_in_executor(self._pool, self._load, domain)
            load.add_done_callback(lambda _: self._loads.pop(domain))
        return await asyncio.shield(load)

    def close(self) -> None:
        """Stop."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, domain: str) -> Deployment:
        was_evicted = self._live.is_evicted(domain)
        started = time.perf_counter()
        deployment = self._live.get(domain)
        if was_evicted:
            self._count_miss(started)
        return deployment

    def _count_miss(self, started: float) -> None:
        self.misses += 1
        self._observe(time.perf_counter() - started)
