"""Admission of recommendations: few run at once, the others queue by domain, and none queues for
long.

A request that queues has cost its head and its body's bytes: nothing is parsed, no row is looked
up. So the event loop stays responsive in a flood, a refusal is cheap, and places are given to the
domains in turns (round robin): the flood of one domain is not the latency of the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import QueueFull

DOMAIN_SHARE = 0.75
"""Of the places that run and of those in the queue, as many as one domain may hold."""
STALE_FACTOR = 2.0
"""Times the longest wait after which a request in the queue is refused all the same."""
WINDOW_S = 0.1


@dataclass(slots=True)
class Waiting:
    """A request in the queue, since when, and what lets it begin."""

    since: float
    turn: asyncio.Future[None]


class Admission:
    """Counts what runs and holds the queues; used on the event loop only.

    Args:
        max_queue: requests that run or queue, at most.
        max_wait_s: requests that would queue longer are refused.
        at_once: requests that run, at most.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        max_queue: int,
        max_wait_s: float,
        at_once: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once = min(at_once, max_queue)
        self._share = max(1, int(self._at_once * DOMAIN_SHARE))
        self._max_waiting = max_queue - self._at_once
        self._max_of_domain = max(1, int(self._max_waiting * DOMAIN_SHARE))
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._queues: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._by_domain: dict[str, int] = {}
        self.running = 0
        self.waiting = 0
        self.begun = 0
        self._rate = Rate(clock)

    def is_closed(self, domain: str) -> bool:
        """Whether a request would be refused now; nothing of it need be read then."""
        queue = self._queues.get(domain)
        if queue is None:
            return self.waiting >= self._max_waiting and self.running >= self._at_once
        full = self.waiting >= self._max_waiting or len(queue) >= self._max_of_domain
        late = self._clock() - queue[0].since > self._max_wait_s
        return full or late or self._expected_wait(queue) > self._max_wait_s

    def begin(self, domain: str) -> asyncio.Future[None] | None:
        """Take a place, or queue for one: what is returned is to be awaited.

        Raises:
            QueueFull: too many wait, or those before it take too long; the future may raise it,
                too.
        """
        held = self._by_domain.get(domain, 0)
        if self.running < self._at_once and held < self._share and domain not in self._queues:
            self._place(domain, held)
            return None
        if self.waiting >= self._max_waiting or self.is_closed(domain):
            raise QueueFull(self.waiting)
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(domain, deque()).append(Waiting(self._clock(), turn))
        self.waiting += 1
        return turn

    def end(self, domain: str) -> None:
        """Give a place back, and let the next begin."""
        self.running -= 1
        held = self._by_domain[domain] - 1
        if held:
            self._by_domain[domain] = held
        else:
            del self._by_domain[domain]
        self._rate.count(busy=self.waiting > 0)
        while self.waiting and self.running < self._at_once and self._admit_next():
            pass

    def _admit_next(self) -> bool:
        """Let the first of the next domain's queue begin; False where no domain may have more."""
        for domain in self._queues:
            held = self._by_domain.get(domain, 0)
            if held < self._share:
                break
        else:
            return False
        one = self._take(domain)
        if one.turn.done():  # its client left
            return True
        if self._clock() - one.since > STALE_FACTOR * self._max_wait_s:
            one.turn.set_exception(QueueFull(self.waiting))
            return True
        self._place(domain, held)
        one.turn.set_result(None)
        return True

    def _place(self, domain: str, held: int) -> None:
        self.begun += 1
        self.running += 1
        self._by_domain[domain] = held + 1

    def _take(self, domain: str) -> Waiting:
        """Take the first of a domain's queue; the domain comes last then."""
        queue = self._queues[domain]
        one = queue.popleft()
        self.waiting -= 1
        if queue:
            self._queues.move_to_end(domain)
        else:
            del self._queues[domain]
        return one

    def _expected_wait(self, queue: deque[Waiting]) -> float:
        """Seconds until the next one of a queue would begin, since the domains take turns."""
        before = min(self.waiting, len(queue) * len(self._queues))
        return before / self._rate.value


class Rate:
    """Requests that end a second while others queue; infinite until that was seen."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._count = 0
        self._busy = False
        self.value = float("inf")

    def count(self, *, busy: bool) -> None:
        """Count one that ended; `busy`: others queue."""
        if not busy:
            self._busy = False
            return
        now = self._clock()
        if not self._busy:
            self._busy = True
            self._began = now
            self._count = 0
        self._count += 1
        passed = now - self._began
        if passed >= WINDOW_S:
            seen = self._count / passed
            self.value = seen if self.value == float("inf") else (self.value + seen) / 2
            self._began = now
            self._count = 0
