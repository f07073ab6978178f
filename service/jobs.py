"""Work that outlives its request: queued in state, done by a few threads, gone on with after a crash.

Jobs of one domain run one after the other, in the order in which they were asked for: of two activations the one that
was asked for last is live in the end. Jobs of different domains run side by side.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from service.errors import JobNotFound, StateUnavailable
from service.problems import problem_of
from service.state import Job, State

WRITE_EVERY_S = 0.2
RETRY_S = 0.5
WORKERS = 2

T = TypeVar("T")

Work = Callable[[Job, "Progress"], dict[str, Any]]
"""Does a job and returns its result; must be safe to run again after a crash, and while state comes and goes."""

_log = logging.getLogger("swaprec")


class Stopped(Exception):
    """The service stops while a job runs."""


class Progress:
    """Tells state how far a job is, not too often; ends the job when the service stops."""

    def __init__(self, state: State, job_id: str, closing: threading.Event) -> None:
        self._state, self._id, self._written, self._closing = state, job_id, 0.0, closing

    def patiently(self, call: Callable[[], T]) -> T:
        """Do something that needs state; while state is gone wait, and do it again.

        Raises:
            Stopped: the service stops; the job is resumed by the next process.
        """
        return _patiently(call, self._closing)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """Begin a stage; returns what to call with (done, total).

        Raises:
            Stopped: the service stops; the job is resumed by the next process.
        """
        self._stop_if_closing()
        self._tell(stage=name, done=0, total=0)
        return self._advance

    def _stop_if_closing(self) -> None:
        if self._closing.is_set():
            raise Stopped

    def _advance(self, done: int, total: int) -> None:
        self._stop_if_closing()
        if time.monotonic() - self._written >= WRITE_EVERY_S or done == total:
            self._tell(done=done, total=total)
            self._written = time.monotonic()

    def _tell(self, **changes: Any) -> None:
        with suppress(StateUnavailable):  # progress is a courtesy; what the job writes itself waits for state
            self._state.update_job(self._id, **changes)


class Jobs:
    """Runs jobs by kind.

    `kinds` is filled before `resume` is called. `after` is told of a job, by kind, once its end is written down.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="job")
        self._closing = threading.Event()
        self._left = [job for job in reversed(state.jobs(limit=1_000_000)) if not job.ended]
        self._lines: dict[str, deque[Job]] = {}
        self._lining = threading.Lock()
        for job in self._left:
            self._lines.setdefault(job.domain, deque()).append(job)
        self.kinds: dict[str, Work] = {}
        self.after: dict[str, Callable[[Job], None]] = {}

    def submit(self, kind: str, domain: str, detail: dict[str, Any]) -> Job:
        """Write a job down and queue it; it survives a crash from here on."""
        with self._lining:
            job = self._state.create_job(kind, domain, detail)
            line = self._lines.setdefault(domain, deque())
            line.append(job)
            if len(line) == 1:
                self._pool.submit(self._run_first, domain)
        return job

    def resume(self) -> None:
        """Go on with what a process that is gone had not finished, before what came in since for the same domains."""
        for domain in dict.fromkeys(job.domain for job in self._left):
            self._pool.submit(self._run_first, domain)
        self._left = []

    def unfinished(self, kind: str) -> list[Job]:
        """Return the jobs of a kind that a process that is gone left behind."""
        return [job for job in self._left if job.kind == kind]

    def background(self, work: Callable[[], None]) -> Future[None]:
        """Run something that needs no record."""
        return self._pool.submit(work)

    def patiently(self, call: Callable[[], T]) -> T:
        """Do something that needs state; while state is gone wait, and do it again.

        Raises:
            Stopped: the service stops.
        """
        return _patiently(call, self._closing)

    def close(self) -> None:
        """Stop what runs at its next step, drop what is queued; the next process resumes both."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run_first(self, domain: str) -> None:
        """Run a domain's first job, then queue its next; a job stays in line until it ended."""
        line = self._lines[domain]
        try:
            self._run(line[0])
        finally:
            with self._lining:
                line.popleft()
                if not line:
                    del self._lines[domain]
                elif not self._closing.is_set():
                    self._pool.submit(self._run_first, domain)

    def _run(self, job: Job) -> None:
        try:
            self._write(job, status="running")
            progress = Progress(self._state, job.id, self._closing)
            result = self.patiently(lambda: self.kinds[job.kind](job, progress))
            self._write(job, status="succeeded", result=result)
        except Stopped:
            _log.info("job %s (%s of %s) goes on after the next start", job.id, job.kind, job.domain)
            return
        except JobNotFound:
            _log.info("job %s went with its domain", job.id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job's reader must learn of it
            _log.exception("job %s (%s of %s) failed", job.id, job.kind, job.domain)
            problem = problem_of(error).body | {"error": str(error)}
            if not self._failed(job, problem):
                return
        if job.kind in self.after:
            self.after[job.kind](job)

    def _failed(self, job: Job, problem: dict[str, Any]) -> bool:
        """Write down that a job failed; return False where the service stops before state takes it."""
        try:
            self._write(job, status="failed", error=problem)
        except JobNotFound:
            _log.info("job %s went with its domain", job.id)
        except Stopped:
            return False
        return True

    def _write(self, job: Job, **changes: Any) -> None:
        self.patiently(lambda: self._state.update_job(job.id, **changes))


def _patiently(call: Callable[[], T], closing: threading.Event) -> T:
    while True:
        try:
            return call()
        except StateUnavailable as error:
            _log.debug("a job waits: %s", error)
            if closing.wait(RETRY_S):
                raise Stopped from None
