"""Work that outlives its request: queued in state, claimed by one process at a time, resumed after
a crash.

Jobs of one domain run one after the other, in the order in which they were asked for: of two
activations the one that was asked for last is live in the end. Jobs of different domains run side
by side, in whichever process claims them. A claim is a lease that is renewed while the work goes
on, and a fencing token: who was overtaken writes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from service.errors import JobNotFound, JobTaken, StateUnavailable, TooManyAtOnce
from service.state import JobRecord, State
from service.wire.problems import is_expected, one_line, problem_of

WRITE_EVERY_S = 0.2
RETRY_S = 0.5
WORKERS = 2
LEASE_S = 6.0
LEASE_RENEWAL_S = 1.5
POLL_S = 1.0
MAX_OPEN_JOBS = 100
"""Jobs of a domain that have not ended: clients may ask for no more."""

T = TypeVar("T")

Work = Callable[[JobRecord, "Progress"], dict[str, Any]]
"""Does a job and returns its result;
must be safe to run again after a crash, and while state comes and goes.
"""

_log = logging.getLogger("swaprec")


class Stopped(Exception):
    """The service stops while a job runs."""


class Cancelled(Exception):
    """Somebody no longer wants what a job does."""


class Progress:
    """Tells state how far a job is, not too often; ends it when it may not go on.

    Its methods raise Stopped when the service stops (the job is resumed by the next process),
    Cancelled when somebody cancelled it, JobNotFound when its domain was removed, JobTaken when
    another process has taken it over.
    """

    def __init__(self, state: State, job: JobRecord, closing: threading.Event) -> None:
        self._state = state
        self._closing = closing
        self._written = 0.0
        self._began = 0.0
        self.job = job
        self.share = 0.0
        self.cancelled = job.cancelling
        self.taken = False
        self.removed = False

    def retry_until_available(self, call: Callable[[], T]) -> T:
        """Do something that needs state; while state is unavailable, wait and retry."""
        return _retry_until_available(call, self._closing)

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
            self.cancelled = self._state.renew_job(self.job.id, self.job.token, LEASE_S).cancelling
        except JobNotFound:
            self.removed = True
        except JobTaken:
            self.taken = True
        except StateUnavailable as error:
            _log.debug("a lease is not renewed: %s", error)

    def _advance(self, done: int, total: int) -> None:
        self.check()
        self.share = done / total if total else 0.0
        if time.monotonic() - self._written >= WRITE_EVERY_S or done == total:
            self._written = time.monotonic()
            left = (self._written - self._began) * (1 / self.share - 1) if self.share else None
            self._write(done=done, total=total, eta_s=None if left is None else round(left, 1))

    def _write(self, **changes: Any) -> None:
        # Progress is a courtesy; what the job writes itself waits for state.
        with suppress(StateUnavailable):
            self._state.update_job(self.job.id, token=self.job.token, **changes)


class Jobs:
    """Runs jobs by kind.

    `kinds` is filled before `start`. `after` is called with a job, by kind, once its end is written
    down.
    """

    def __init__(self, state: State, owner: str) -> None:
        self._state = state
        self.owner = owner
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._closing = threading.Event()
        self._news = 0
        self._changed = threading.Condition()
        self._running: dict[str, Progress] = {}
        self._threads: list[threading.Thread] = []
        self.kinds: dict[str, Work] = {}
        self.after: dict[str, Callable[[JobRecord], None]] = {}

    def start(self) -> None:
        """Begin to claim jobs, also those that a process that is gone left unfinished."""
        targets = [self._claim_and_run] * WORKERS + [self._keep_leases]
        self._threads = [
            threading.Thread(target=target, name="job", daemon=True) for target in targets
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, kind: str, domain: str, detail: dict[str, Any], incarnation: str = ""
    ) -> JobRecord:
        """Write a job down and queue it; it survives a crash from here on.

        Raises:
            DomainNotFound: the domain is gone, or a later incarnation of its name.
        """
        job = self._state.create_job(kind, domain, detail, incarnation=incarnation)
        self.wake()
        return job

    def check_room(self, domain: str) -> None:
        """Refuse one more job that a client asks for where its domain has enough.

        Raises:
            TooManyAtOnce.
        """
        if self._state.count_open_jobs(domain) >= MAX_OPEN_JOBS:
            raise TooManyAtOnce(
                f"{domain} has {MAX_OPEN_JOBS} jobs that have not ended: wait for them, or cancel"
                " some with DELETE /jobs/<id>"
            )

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a job: at once if it is queued, at its next step if it runs.

        Raises:
            JobNotFound; RequestConflict: it ended.
        """
        job = self._state.cancel_job(job_id)
        running = self._running.get(job_id)
        if running is not None:
            running.cancelled = True
        if job.ended:
            self._ended(job)
        return job

    def wake(self) -> None:
        """Look for jobs now: there may be one."""
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def unended(self) -> list[JobRecord]:
        """Return all jobs that have not ended, whoever runs them."""
        return self._state.open_jobs()

    def shares(self) -> dict[tuple[str, str], float]:
        """Return how far the stage of each job is that runs here, by kind and domain."""
        return {(one.job.kind, one.job.domain): one.share for one in list(self._running.values())}

    def background(self, work: Callable[[], None]) -> Future[None]:
        """Run something that needs no record."""
        return self._pool.submit(work)

    def retry_until_available(self, call: Callable[[], T]) -> T:
        """Do something that needs state; while state is unavailable, wait and retry.

        Raises:
            Stopped: the service stops.
        """
        return _retry_until_available(call, self._closing)

    def stop(self) -> None:
        """Claim nothing more, and stop what runs at its next step;
        it is given back, for the next process.
        """
        self._closing.set()
        self.wake()

    def close(self) -> None:
        """Stop, and wait until all of it has."""
        self.stop()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _claim_and_run(self) -> None:
        while not self._closing.is_set():
            seen = self._news
            job = self._claimed()
            if job is not None:
                self._run(job)
                # The next of its domain may be claimed now.
                self.wake()
                continue
            with self._changed:
                self._changed.wait_for(partial(self._is_news, seen), POLL_S)

    def _is_news(self, seen: int) -> bool:
        return self._news != seen or self._closing.is_set()

    def _claimed(self) -> JobRecord | None:
        """Claim a job, unless there is none; whatever is wrong with state, this is tried again."""
        try:
            # After a pause of this process nobody may have claimed its jobs, itself included.
            self._beat()
            return self._state.claim_job(self.owner, LEASE_S)
        except StateUnavailable as error:
            _log.debug("no job is claimed: %s", error)
        except Exception:  # noqa: BLE001 - the disk is full, say: later it is not, and jobs have to go on
            _log.exception("no job can be claimed")
        return None

    def _keep_leases(self) -> None:
        while not self._closing.wait(LEASE_RENEWAL_S) or self._running:
            try:
                self._beat()
            except Exception:  # noqa: BLE001 - as when claiming
                _log.exception("leases cannot be renewed")
            if self._closing.is_set():
                time.sleep(RETRY_S)

    def _beat(self) -> None:
        for progress in list(self._running.values()):
            progress.beat()

    def _run(self, job: JobRecord) -> None:
        before = self._running.get(job.id)
        if before is not None:  # its lease ran out all the same
            before.taken = True
        progress = self._running[job.id] = Progress(self._state, job, self._closing)
        try:
            result = self.retry_until_available(lambda: self.kinds[job.kind](job, progress))
            self._end(job, status="succeeded", result=result)
        except Stopped:
            self._give_back(job)
        except JobTaken as error:
            _log.warning("%s", error.detail)
        except JobNotFound:
            self._end_removed(job)
        except Cancelled:
            _log.info("job %s (%s of %s) is cancelled", job.id, job.kind, job.domain)
            self._end_safely(job, status="cancelled")
        except Exception as error:  # noqa: BLE001 - whatever it is, the job's reader must learn of it
            if self._closing.is_set():  # what it worked with was ended, too
                self._give_back(job)
                return
            if is_expected(error):
                _log.warning(
                    "job %s (%s of %s) failed: %s",
                    job.id,
                    job.kind,
                    job.domain,
                    one_line(str(error)),
                )
            else:
                _log.exception("job %s (%s of %s) failed", job.id, job.kind, job.domain)
            self._end_safely(
                job, status="failed", error=problem_of(error).body | {"error": str(error)}
            )
        finally:
            if self._running.get(job.id) is progress:
                del self._running[job.id]

    def _end(self, job: JobRecord, **changes: Any) -> None:
        ends = changes | {"eta_s": None}
        self._ended(
            self.retry_until_available(
                lambda: self._state.update_job(job.id, token=job.token, **ends)
            )
        )

    def _end_safely(self, job: JobRecord, **changes: Any) -> None:
        try:
            self._end(job, **changes)
        except Stopped:
            self._give_back(job)
        except JobNotFound:
            self._end_removed(job)
        except JobTaken as error:
            _log.warning("%s", error.detail)
        except Exception:  # noqa: BLE001 - its end cannot be written down: its lease runs out, and it is claimed again
            _log.exception("the end of job %s is not known", job.id)

    def _ended(self, job: JobRecord) -> None:
        if job.kind in self.after:
            self.after[job.kind](job)

    def _end_removed(self, job: JobRecord) -> None:
        _log.info("job %s went with its domain", job.id)
        self._ended(job)

    def _give_back(self, job: JobRecord) -> None:
        _log.info("job %s (%s of %s) goes on after the next start", job.id, job.kind, job.domain)
        with suppress(StateUnavailable, JobTaken, JobNotFound):
            self._state.release_job(job.id, job.token)


def _retry_until_available(call: Callable[[], T], closing: threading.Event) -> T:
    while True:
        try:
            return call()
        except StateUnavailable as error:
            _log.debug("a job waits: %s", error)
            if closing.wait(RETRY_S):
                raise Stopped from None
