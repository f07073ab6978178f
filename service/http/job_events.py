"""Followers of jobs: each job is read once for all who follow it in this process.

A follower gets the job as it is and whenever it changed; one that reads slowly skips what came
between. Streams are bounded in number, end with their job, with the service and with the key that
they began with, and say why they end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from service.errors import JobNotFound, ServiceError, StateUnavailable, Stopping, TooManyAtOnce
from service.state import JobQueue, JobRecord
from service.wire.problems import problem_of

LOOK_EVERY_S = 0.1
IDLE = 9
"""Times that reading the jobs took, which pass before they are read again."""
KEEP_ALIVE_S = 15.0
CHECK_EVERY_S = 1.0
MAX_FOLLOWERS_PER_JOB = 100
MAX_FOLLOWERS = 500

KEEP_ALIVE = ": still there\n\n"


@dataclass(slots=True)
class Followed:
    """A job as it was read last; None once it is gone.

    `changed` is set, and replaced, when it is another.
    """

    job: JobRecord | None
    event: str
    followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, job: JobRecord | None) -> None:
        """Note what was read."""
        if job == self.job:
            return
        self.job = job
        if job is not None:
            self.event = event_of(job)
        self.changed.set()
        self.changed = asyncio.Event()


class JobEvents:
    """Reads the jobs that are followed; used on the event loop only."""

    def __init__(self, state: JobQueue) -> None:
        self._state = state
        self._followed: dict[str, Followed] = {}
        self._reader: asyncio.Task[None] | None = None
        self._stopping = False
        self.reads = 0

    def close(self) -> None:
        """End all streams."""
        self._stopping = True
        for followed in self._followed.values():
            followed.changed.set()

    def check(self, job_id: str) -> None:
        """Refuse one more follower where there are enough.

        Raises:
            TooManyAtOnce.
        """
        followed = self._followed.get(job_id)
        if followed is not None and followed.followers >= MAX_FOLLOWERS_PER_JOB:
            raise TooManyAtOnce(
                f"{MAX_FOLLOWERS_PER_JOB} clients follow job {job_id!r}: ask for it with GET"
                f" /jobs/{job_id}"
            )
        if sum(one.followers for one in self._followed.values()) >= MAX_FOLLOWERS:
            raise TooManyAtOnce(
                f"{MAX_FOLLOWERS} clients follow jobs: ask for yours with GET /jobs/{job_id}"
            )

    async def follow(self, job: JobRecord, check: Callable[[], None]) -> AsyncIterator[str]:
        """Yield a job's events until it ended; comments in between keep proxies from closing the
        connection.

        Args:
            job: as it is.
            check: called every second; what it raises ends the stream, and is its last event.
        """
        try:
            with self._following(job) as followed:
                async for text in self._events(followed, check):
                    yield text
        except ServiceError as error:
            yield end_of(error)

    async def _events(self, followed: Followed, check: Callable[[], None]) -> AsyncIterator[str]:
        seen = ""
        silent_since = time.monotonic()
        while True:
            changed = followed.changed
            if self._stopping:
                raise Stopping
            if followed.event != seen:
                seen = followed.event
                silent_since = time.monotonic()
                yield seen
            elif time.monotonic() - silent_since >= KEEP_ALIVE_S:
                silent_since = time.monotonic()
                yield KEEP_ALIVE
            if followed.job is None:
                raise JobNotFound("the job does not exist any more: its domain was removed")
            if followed.job.ended and followed.event == seen:
                return
            await _wait(changed)
            check()

    @contextmanager
    def _following(self, job: JobRecord) -> Iterator[Followed]:
        self.check(job.id)  # others may have come since the first time
        followed = self._followed.setdefault(job.id, Followed(job, event_of(job)))
        followed.followers += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._read())
        try:
            yield followed
        finally:
            followed.followers -= 1
            if not followed.followers:
                self._followed.pop(job.id, None)

    async def _read(self) -> None:
        """Read all jobs that are followed, again and again until none is."""
        took = 0.0
        while self._followed:
            await asyncio.sleep(max(LOOK_EVERY_S, IDLE * took))
            began = time.monotonic()
            found = await run_in_threadpool(self._found, list(self._followed))
            for job_id, job in found.items():
                if job_id in self._followed:
                    self._followed[job_id].update(job)
            took = time.monotonic() - began

    def _found(self, ids: Sequence[str]) -> dict[str, JobRecord | None]:
        """Read jobs; those that could not be read now are left out."""
        found: dict[str, JobRecord | None] = {}
        for job_id in ids:
            self.reads += 1
            try:
                found[job_id] = self._state.get_job(job_id)
            except StateUnavailable:
                return found
            except JobNotFound:
                found[job_id] = None
        return found


async def _wait(changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(CHECK_EVERY_S):
            await changed.wait()
    except TimeoutError:
        return


def event_of(job: JobRecord) -> str:
    """Write a job as a server-sent event."""
    return f"event: job\ndata: {json.dumps(job.to_json(), ensure_ascii=False)}\n\n"


def end_of(error: ServiceError) -> str:
    """Write why a stream ends before its job as a server-sent event."""
    return f"event: end\ndata: {json.dumps(problem_of(error).body, ensure_ascii=False)}\n\n"
