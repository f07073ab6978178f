"""Follows the change feed: what another process changed is applied here.

An entry only says which domain to look at again, so that entries may be seen twice, late or
together. Every few seconds all domains are looked at, whatever the feed said.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from adapters_store.store import Store
from service.errors import StateUnavailable
from service.jobs import Jobs
from service.live.reconcile import Reconciler
from service.live.table import LiveTable
from service.state import DomainFeed

FEED_THREADS = 4
IGNORED = ("probes",)

_log = logging.getLogger("swaprec")


@dataclass(frozen=True, slots=True)
class FeedIntervals:
    """Seconds.

    `wait_s`: how long one look at the feed waits for an entry. `sweep_s`: between two looks at all
    domains, whatever the feed said. `retry_s`: between two attempts where something went wrong.
    """

    wait_s: float = 1.0
    sweep_s: float = 15.0
    retry_s: float = 0.5


FEED_INTERVALS = FeedIntervals()


class Follower:
    """Applies the feed to the live table, domain by domain, several domains at once."""

    def __init__(
        self,
        state: DomainFeed,
        store: Store,
        live: LiveTable,
        reconciler: Reconciler,
        jobs: Jobs,
        intervals: FeedIntervals = FEED_INTERVALS,
    ) -> None:
        self._state = state
        self._store = store
        self._live = live
        self._reconciler = reconciler
        self._jobs = jobs
        self._intervals = intervals
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(FEED_THREADS, thread_name_prefix="feed")
        self._thread = threading.Thread(target=self._follow, name="feed", daemon=True)
        self._since: dict[str, float] = {}
        self._trouble: dict[str, tuple[float, float]] = {}
        self._again: set[str] = set()
        self._lock = threading.Lock()

    @property
    def lag_s(self) -> float:
        """Seconds since the oldest change that was seen
        and is not applied yet; 0 where there is none.
        """
        with self._lock:
            return max(0.0, time.time() - min(self._since.values())) if self._since else 0.0

    def start(self) -> None:
        """Reconcile every domain, then follow the feed."""
        try:
            names = [record.name for record in self._state.domains()]
        except StateUnavailable:  # it went away since it was opened: the store knows most of them
            names = self._store.domains()
        for name in names:
            self._live.wait(name, "being restored")
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _follow(self) -> None:
        position: str | None = None
        swept = 0.0
        while not self._closing.is_set():
            try:
                if position is None or time.monotonic() - swept > self._intervals.sweep_s:
                    position = self._state.feed_end() if position is None else position
                    self._look_at_all()
                    swept = time.monotonic()
                position = self._step(position)
                self._look_at_troubled()
            except StateUnavailable as error:
                _log.debug("the feed waits: %s", error)
                self._closing.wait(self._intervals.retry_s)
            except Exception:  # noqa: BLE001 - whatever it is, what others change must be heard of again
                _log.exception("the feed cannot be followed")
                self._closing.wait(self._intervals.retry_s)

    def _step(self, position: str) -> str | None:
        entries = self._state.follow(position, self._intervals.wait_s)
        if entries is None:
            _log.warning("the feed went on without this process: looking at every domain")
            return None
        for entry in entries:
            if entry.kind == "job":
                self._jobs.wake()
            elif entry.kind not in IGNORED:
                self._live.invalidate(entry.domain)
                self._look_at(entry.domain, entry.at)
        return entries[-1].position if entries else position

    def _look_at_all(self) -> None:
        there = {record.name for record in self._state.domains()}
        for name in there | self._live.names():
            self._look_at(name, time.time())

    def _look_at_troubled(self) -> None:
        """Look again at what met an error, ever less often."""
        now = time.monotonic()
        for name, (due, _) in list(self._trouble.items()):
            if due <= now:
                self._look_at(name, time.time())

    def _note_trouble(self, domain: str) -> None:
        if domain not in self._reconciler.backlog.troubled:
            self._trouble.pop(domain, None)
            return
        _, delay = self._trouble.get(domain, (0.0, self._intervals.retry_s / 2))
        delay = min(2 * delay, self._intervals.sweep_s)
        self._trouble[domain] = time.monotonic() + delay, delay

    def _look_at(self, domain: str, since: float) -> None:
        with self._lock:
            if domain in self._since:
                self._again.add(domain)
                return
            self._since[domain] = since
        self._pool.submit(self._reconcile, domain)

    def _reconcile(self, domain: str) -> None:
        while not self._closing.is_set():
            with self._lock:
                self._again.discard(domain)
            waited = domain in self._reconciler.backlog.waiting
            try:
                self._reconciler.reconcile(domain)
                self._note_trouble(domain)
                # Of many changes each would be looked at in vain.
                if waited and domain in self._reconciler.backlog.waiting:
                    self._closing.wait(self._intervals.retry_s)
            except StateUnavailable as error:
                _log.debug("%s waits: %s", domain, error)
                self._closing.wait(self._intervals.retry_s)
                continue
            except Exception:  # noqa: BLE001 - the next change of the domain tries again
                _log.exception("%s cannot be brought up to date", domain)
            with self._lock:
                if domain not in self._again:
                    del self._since[domain]
                    return
                self._since[domain] = time.time()
