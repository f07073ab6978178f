"""The pace of evaluations: they ask by the path that answers requests, so they must not keep
requests waiting.

Evaluations take turns in slices of a few probes. Between two slices the event loop is free, and
where recommendations came meanwhile it stays free for as long as the last slice took.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from service.access.admission import Admission
from service.errors import Stopping, TooManyAtOnce

MAX_EVALUATIONS = 8
MAX_EVALUATIONS_PER_DOMAIN = 4
"""Evaluations that clients may have in progress in a process."""
YIELD_S = 0.05
"""How long a slice waits at most for the recommendations before it:
an evaluation ends also where they never do.
"""
STEP_S = 0.001


class Pace:
    """Gives evaluations their turns; used on the event loop only.

    Args:
        admission: knows whether recommendations are in progress.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._stopping = False
        self._turn = asyncio.Lock()
        self._begun = 0
        self._took = 0.0
        self._by_domain: Counter[str] = Counter()

    def close(self) -> None:
        """End evaluations."""
        self._stopping = True

    @contextmanager
    def place(self, domain: str) -> Iterator[None]:
        """Count an evaluation that a client asked for until the block ends.

        Raises:
            TooManyAtOnce: there are too many already.
        """
        if self._by_domain[domain] >= MAX_EVALUATIONS_PER_DOMAIN:
            raise TooManyAtOnce(
                f"{domain} has {MAX_EVALUATIONS_PER_DOMAIN} evaluations in progress: wait for one"
                " to end"
            )
        if self._by_domain.total() >= MAX_EVALUATIONS:
            raise TooManyAtOnce(
                f"{MAX_EVALUATIONS} evaluations are in progress: wait for one to end"
            )
        self._by_domain[domain] += 1
        try:
            yield
        finally:
            self._by_domain[domain] -= 1
            if not self._by_domain[domain]:
                del self._by_domain[domain]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the turn of a slice.

        Raises:
            Stopping: the service does.
        """
        async with self._turn:
            await self._give_way()
            if self._stopping:
                raise Stopping
            began = time.monotonic()
            yield
            self._took = time.monotonic() - began

    async def _give_way(self) -> None:
        """Wait until no recommendation runs;
        where some came, half of the time at least is theirs.
        """
        begun = self._admission.begun
        if begun != self._begun:
            self._begun = begun
            await asyncio.sleep(min(self._took, YIELD_S))
        else:
            await asyncio.sleep(0)
        until = time.monotonic() + YIELD_S
        # An event would cost each recommendation something, and here nothing is in a hurry.
        while self._admission.running and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(STEP_S)
