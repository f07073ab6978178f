"""A job has one owner: leases are kept, lost, given back and taken over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_store.errors import OutOfSpace
from service.errors import JobTaken
from service.jobs import JobIntervals, Jobs, Progress
from service.jobs.runner import WORKERS
from service.state import DomainRecord, JobRecord
from service.state.sqlite import SqliteState
from tests.service.conftest import wait_until


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SqliteState]:
    state = SqliteState(tmp_path / "state")
    state.put_domain(DomainRecord("movies", "f"))
    yield state
    state.close()


def test_a_job_of_a_process_that_died_is_done_by_another_and_the_first_may_write_nothing(
    state: SqliteState,
) -> None:
    left = state.create_job("work", "movies", {})
    dead = state.claim_job("dead", 0.3)
    assert dead is not None
    done: list[str] = []

    def work(job: JobRecord, progress: Progress) -> dict[str, Any]:
        progress.fence()
        done.append(job.owner)
        return {}

    jobs = Jobs(state, "alive")
    jobs.kinds["work"] = work
    jobs.start()
    wait_until(lambda: state.get_job(left.id).status == "succeeded")
    jobs.close()
    assert done == ["alive"]
    late = Progress(state, dead, threading.Event())
    with pytest.raises(JobTaken):
        late.fence()


def test_a_job_that_a_clean_stop_interrupts_is_given_back_at_once(state: SqliteState) -> None:
    going = threading.Event()

    def work(_: JobRecord, progress: Progress) -> dict[str, Any]:
        going.set()
        while True:
            progress.check()
            time.sleep(0.01)

    jobs = Jobs(state, "one")
    jobs.kinds["work"] = work
    jobs.start()
    job = jobs.submit("work", "movies", {})
    assert going.wait(10)
    jobs.close()
    assert state.get_job(job.id).status == "queued"
    again = state.claim_job("two", 5)
    assert again is not None
    assert again.id == job.id


def test_a_long_job_keeps_its_lease(state: SqliteState) -> None:
    lease_s = 1.0  # ten beats, so that a busy machine renews it in time
    going = threading.Event()
    go_on = threading.Event()

    def work(_: JobRecord, progress: Progress) -> dict[str, Any]:
        going.set()
        assert go_on.wait(10)
        progress.fence()
        return {}

    jobs = Jobs(state, "one", JobIntervals(lease_s=lease_s, renewal_s=lease_s / 10))
    jobs.kinds["work"] = work
    jobs.start()
    job = jobs.submit("work", "movies", {})
    assert going.wait(10)
    time.sleep(1.2 * lease_s)  # the lease of its claim is over
    assert state.claim_job("two", 5) is None
    go_on.set()
    wait_until(lambda: state.get_job(job.id).ended)
    jobs.close()
    assert state.get_job(job.id).status == "succeeded"


class Pausing(SqliteState):
    """State whose leases run out before they are renewed,
    as those of a process that stood still have.
    """

    looks = 0

    def claim_job(self, owner: str, lease_s: float) -> JobRecord | None:
        self.looks += 1
        return super().claim_job(owner, lease_s / 10)

    def renew_job(self, job_id: str, token: int, lease_s: float) -> JobRecord:
        return super().renew_job(job_id, token, lease_s / 20)


def test_a_process_does_not_take_its_own_job_from_itself(tmp_path: Path) -> None:
    state = Pausing(tmp_path)
    state.put_domain(DomainRecord("movies", "f"))
    began: list[int] = []

    def work(job: JobRecord, progress: Progress) -> dict[str, Any]:
        began.append(job.token)
        seen = state.looks
        wait_until(lambda: state.looks >= seen + 4)  # the other thread looks for jobs meanwhile
        progress.check()
        return {}

    jobs = Jobs(state, "one", JobIntervals(poll_s=0.4))
    jobs.kinds["work"] = work
    jobs.start()
    job = jobs.submit("work", "movies", {})
    wait_until(lambda: state.get_job(job.id).ended)
    jobs.close()
    assert (began, state.get_job(job.id).status) == ([1], "succeeded")
    state.close()


class Full(SqliteState):
    """State on a disk that is full for a while."""

    full = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.met: set[int] = set()

    def update_job(self, job_id: str, *, token: int | None = None, **changes: Any) -> JobRecord:
        self._check()
        return super().update_job(job_id, token=token, **changes)

    def claim_job(self, owner: str, lease_s: float) -> JobRecord | None:
        if self.full:
            self.met.add(threading.get_ident())
        self._check()
        return super().claim_job(owner, lease_s / 10)

    def renew_job(self, job_id: str, token: int, lease_s: float) -> JobRecord:
        self._check()
        return super().renew_job(job_id, token, lease_s / 10)

    def _check(self) -> None:
        if self.full:
            raise OutOfSpace("no room")


def test_jobs_go_on_when_a_full_disk_has_room_again(tmp_path: Path) -> None:
    state = Full(tmp_path)
    state.put_domain(DomainRecord("movies", "f"))
    tries: list[int] = []

    def work(job: JobRecord, _: Progress) -> dict[str, Any]:
        tries.append(job.token)
        state.full = len(tries) == 1
        if state.full:
            raise OutOfSpace("no room")
        return {}

    jobs = Jobs(state, "one", JobIntervals(poll_s=0.05))
    jobs.kinds["work"] = work
    jobs.start()
    job = jobs.submit("work", "movies", {})
    wait_until(lambda: len(state.met) == WORKERS)  # every thread has met the full disk
    state.full = False
    wait_until(lambda: state.get_job(job.id).ended)
    jobs.close()
    assert (state.get_job(job.id).status, len(tries)) == ("succeeded", 2)
    state.close()


def test_a_job_that_was_cancelled_while_its_process_died_is_not_resumed(state: SqliteState) -> None:
    job = state.create_job("work", "movies", {})
    assert state.claim_job("dead", 0.0) is not None
    state.cancel_job(job.id)
    done: list[str] = []

    def work(job: JobRecord, progress: Progress) -> dict[str, Any]:
        progress.check()
        done.append(job.id)
        return {}

    jobs = Jobs(state, "one")
    jobs.kinds["work"] = work
    jobs.start()
    wait_until(lambda: state.get_job(job.id).ended)
    jobs.close()
    assert (state.get_job(job.id).status, done) == ("cancelled", [])
