"""The threads that claim jobs and run them."""

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
from service.jobs.intervals import JOB_INTERVALS, JobIntervals
from service.jobs.progress import Cancelled, Progress, Stopped, retry_until_available
from service.state import JobQueue, JobRecord
from service.wire.problems import is_expected, one_line, problem_of

WORKERS = 2
MAX_OPEN_JOBS = 100
"""Jobs of a domain that have not ended: clients may ask for no more."""

T = TypeVar("T")

Work = Callable[[JobRecord, "Progress"], dict[str, Any]]
"""Does a job and returns its result;
must be safe to run again after a crash, and while state comes and goes.
"""

_log = logging.getLogger("swaprec")


class Jobs:
    """Runs jobs by kind.

    `kinds` is filled before `start`. `after` is called with a job, by kind, once its end is written
    down.
    """

    def __init__(
        self,
        state: JobQueue,
        owner: str,
        intervals: JobIntervals = JOB_INTERVALS,
        max_open_jobs: int = MAX_OPEN_JOBS,
    ) -> None:
        self._state = state
        self.owner = owner
        self._intervals = intervals
        self._max_open_jobs = max_open_jobs
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
        most = self._max_open_jobs
        if self._state.count_open_jobs(domain) >= most:
            raise TooManyAtOnce(
                f"{domain} has {most} jobs that have not ended: wait for them, or cancel some with"
                " DELETE /jobs/<id>"
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
        return retry_until_available(call, self._closing, self._intervals.retry_s)

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
                self._changed.wait_for(partial(self._is_news, seen), self._intervals.poll_s)

    def _is_news(self, seen: int) -> bool:
        return self._news != seen or self._closing.is_set()

    def _claimed(self) -> JobRecord | None:
        """Claim a job, unless there is none; whatever is wrong with state, this is tried again."""
        try:
            # After a pause of this process nobody may have claimed its jobs, itself included.
            self._beat()
            return self._state.claim_job(self.owner, self._intervals.lease_s)
        except StateUnavailable as error:
            _log.debug("no job is claimed: %s", error)
        except Exception:  # noqa: BLE001 - the disk is full, say: later it is not, and jobs have to go on
            _log.exception("no job can be claimed")
        return None

    def _keep_leases(self) -> None:
        while not self._closing.wait(self._intervals.renewal_s) or self._running:
            try:
                self._beat()
            except Exception:  # noqa: BLE001 - as when claiming
                _log.exception("leases cannot be renewed")
            if self._closing.is_set():
                time.sleep(self._intervals.retry_s)

    def _beat(self) -> None:
        for progress in list(self._running.values()):
            progress.beat()

    def _run(self, job: JobRecord) -> None:
        before = self._running.get(job.id)
        if before is not None:  # its lease ran out all the same
            before.taken = True
        progress = self._running[job.id] = Progress(
            self._state, job, self._closing, self._intervals
        )
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
