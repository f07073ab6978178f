"""How far a job is, and whether it may go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from service.errors import JobNotFound, JobTaken, StateUnavailable
from service.jobs.intervals import JOB_INTERVALS, JobIntervals
from service.state import JobQueue, JobRecord

T = TypeVar("T")

_log = logging.getLogger("swaprec")


class Stopped(Exception):
    """The service stops while a job runs."""


class Cancelled(Exception):
    """Somebody no longer wants what a job does."""


def retry_until_available(call: Callable[[], T], closing: threading.Event, retry_s: float) -> T:
    """Do something that needs state; while state is unavailable, wait and retry.

    Raises:
        Stopped: the service stops.
    """
    while True:
        try:
            return call()
        except StateUnavailable as error:
            _log.debug("a job waits: %s", error)
            if closing.wait(retry_s):
                raise Stopped from None


class Progress:
    """Tells state how far a job is, not too often; ends it when it may not go on.

    Its methods raise Stopped when the service stops (the job is resumed by the next process),
    Cancelled when somebody cancelled it, JobNotFound when its domain was removed, JobTaken when
    another process has taken it over.
    """

    def __init__(
        self,
        state: JobQueue,
        job: JobRecord,
        closing: threading.Event,
        intervals: JobIntervals = JOB_INTERVALS,
    ) -> None:
        self._state = state
        self._closing = closing
        self._intervals = intervals
        self._written = 0.0
        self._began = 0.0
        self.job = job
        self.share = 0.0
        self.cancelled = job.cancelling
        self.taken = False
        self.removed = False

    def retry_until_available(self, call: Callable[[], T]) -> T:
        """Do something that needs state; while state is unavailable, wait and retry."""
        return retry_until_available(call, self._closing, self._intervals.retry_s)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """Begin a stage; returns what to call with (done, total)."""
        self.check()
        self.share = 0.0
        self._began = time.monotonic()
        self._write(stage=name, done=0, total=0, eta_s=None)
        return self._advance

    def check(self) -> None:
        """Raise where the job may not go on."""
        if self._closing.is_set():
            raise Stopped
        if self.removed:
            raise JobNotFound(f"job {self.job.id!r} does not exist any more")
        if self.taken:
            raise JobTaken(self.job.id, self.job.token)
        if self.cancelled:
            raise Cancelled

    def fence(self) -> None:
        """Raise where this process may no longer write
        what others will believe; asks state itself.
        """
        self.beat()  # somebody may have cancelled it in another process
        self.check()
        if not self._state.holds(self.job.domain, self.job.token):
            self.taken = True
            self.check()

    def beat(self) -> None:
        """Renew the lease, and learn of a cancel."""
        try:
            lease_s = self._intervals.lease_s
            self.cancelled = self._state.renew_job(self.job.id, self.job.token, lease_s).cancelling
        except JobNotFound:
            self.removed = True
        except JobTaken:
            self.taken = True
        except StateUnavailable as error:
            _log.debug("a lease is not renewed: %s", error)

    def _advance(self, done: int, total: int) -> None:
        self.check()
        self.share = done / total if total else 0.0
        if time.monotonic() - self._written >= self._intervals.write_s or done == total:
            self._written = time.monotonic()
            left = (self._written - self._began) * (1 / self.share - 1) if self.share else None
            self._write(done=done, total=total, eta_s=None if left is None else round(left, 1))

    def _write(self, **changes: Any) -> None:
        # Progress is a courtesy; what the job writes itself waits for state.
        with suppress(StateUnavailable):
            self._state.update_job(self.job.id, token=self.job.token, **changes)
