from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_store.errors import OutOfSpace
from service.errors import JobTaken, PayloadTooLarge, RequestConflict
from service.jobs import JobIntervals, Jobs, Progress, Stopped
from service.jobs.runner import WORKERS
from service.rollout.gate_runner import waited
from service.settings import Settings
from service.state import DomainRecord, JobRecord
from service.state.sqlite import SqliteState
from tests.service.conftest import running, wait_for_job, wait_until
from transrec.backbone import Backbone


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SqliteState]:
    state = SqliteState(tmp_path / "state")
    state.put_domain(DomainRecord("movies", "f"))
    yield state
    state.close()


def test_only_what_an_earlier_process_left_is_resumed(state: SqliteState) -> None:
    left = state.create_job("count", "movies", {})
    done: list[str] = []

    def count(job: JobRecord, _: Progress) -> dict[str, Any]:
        done.append(job.id)
        return {}

    jobs = Jobs(state, "one")
    jobs.kinds["count"] = count
    began = jobs.submit("count", "movies", {})
    jobs.start()
    wait_until(lambda: {job.status for job in state.jobs()} == {"succeeded"})
    jobs.close()
    assert sorted(done) == sorted([began.id, left.id])


def test_how_far_a_job_is_that_runs_here_is_known_and_what_stops_with_the_service_is_given_back(
    state: SqliteState,
) -> None:
    reported = threading.Event()
    go_on = threading.Event()

    def count(_: JobRecord, progress: Progress) -> dict[str, Any]:
        progress.stage("embed")(3, 4)
        reported.set()
        go_on.wait(10)
        raise RuntimeError("what it worked with was ended")

    jobs = Jobs(state, "one")
    jobs.kinds["count"] = count
    job = jobs.submit("count", "movies", {})
    jobs.start()
    assert reported.wait(10)
    assert jobs.shares() == {("count", "movies"): 0.75}
    jobs.stop()
    go_on.set()
    jobs.close()
    assert jobs.shares() == {}
    assert state.get_job(job.id).status == "queued", "it failed with the service, not by itself"


def test_a_running_job_estimates_how_long_its_stage_will_take_and_one_that_ended_does_not(
    state: SqliteState,
) -> None:
    reported = threading.Event()
    go_on = threading.Event()

    def count(_: JobRecord, progress: Progress) -> dict[str, Any]:
        advance = progress.stage("embed")
        time.sleep(0.1)
        advance(1, 4)
        reported.set()
        go_on.wait(10)
        return {}

    jobs = Jobs(state, "one")
    jobs.kinds["count"] = count
    job = jobs.submit("count", "movies", {})
    assert job.eta_s is None
    jobs.start()
    assert reported.wait(10)
    # Three quarters, at the pace of the first one.
    assert 0.3 <= (state.get_job(job.id).eta_s or 0) < 20
    go_on.set()
    wait_until(lambda: state.get_job(job.id).ended)
    jobs.close()
    assert state.get_job(job.id).eta_s is None


def test_jobs_of_a_domain_run_in_the_order_in_which_they_were_asked_for(state: SqliteState) -> None:
    state.put_domain(DomainRecord("books", "f"))
    left = state.create_job("note", "movies", {"name": "left", "wait": True})
    noted: list[str] = []
    go_on = threading.Event()

    def note(job: JobRecord, _: Progress) -> dict[str, Any]:
        assert not job.detail["wait"] or go_on.wait(10)
        noted.append(job.detail["name"])
        return {}

    jobs = Jobs(state, "one")
    jobs.kinds["note"] = note
    first, second = (
        jobs.submit("note", "movies", {"name": name, "wait": False}) for name in ("first", "second")
    )
    jobs.start()
    other = jobs.submit("note", "books", {"name": "other", "wait": False})
    wait_until(lambda: state.get_job(other.id).ended)
    assert noted == ["other"], "a domain waits for itself only"
    go_on.set()
    wait_until(lambda: all(state.get_job(job.id).ended for job in (left, first, second)))
    jobs.close()
    assert noted == ["other", "left", "first", "second"]


def test_the_end_of_a_job_is_reported_once_it_is_written_down(state: SqliteState) -> None:
    reported: list[str] = []
    jobs = Jobs(state, "one")

    def refuse(_: JobRecord, __: Progress) -> dict[str, Any]:
        raise PayloadTooLarge("too much")

    jobs.kinds["refuse"] = refuse
    jobs.after["refuse"] = lambda job: reported.append(state.get_job(job.id).status)
    jobs.start()
    jobs.submit("refuse", "movies", {})
    wait_until(lambda: reported != [])
    jobs.close()
    assert reported == ["failed"]
    error = state.jobs()[0].error
    assert error is not None
    assert error["code"] == "payload_too_large"


def test_a_job_whose_domain_goes_away_ends_quietly(state: SqliteState) -> None:
    going = threading.Event()
    removed = threading.Event()
    reported: list[str] = []
    jobs = Jobs(state, "one")

    def wait(job: JobRecord, _: Progress) -> dict[str, Any]:
        going.set()
        assert removed.wait(10)
        state.get_domain(job.domain)
        return {}

    jobs.kinds["wait"] = wait
    jobs.after["wait"] = lambda job: reported.append(job.id)
    jobs.start()
    job = jobs.submit("wait", "movies", {})
    assert going.wait(10)
    state.delete_domain("movies")
    removed.set()
    wait_until(lambda: reported == [job.id])
    jobs.close()
    assert state.jobs() == []


def test_an_interrupted_import_goes_on_at_the_next_start_and_what_nobody_wants_is_removed(
    settings: Settings, backbone: Backbone
) -> None:
    with running(settings) as client:
        client.put("/domains/movies", json={})
    shelf = settings.data / "imports"
    for name in ("wanted.ndjson", "orphan.json", "cut.ndjson.part"):
        (shelf / name).write_text('{"item_id": "a", "title": "storm"}\n', "utf-8")
        os.utime(shelf / name, (0, 0))
    state = SqliteState(settings.data)
    job = state.create_job("import", "movies", {"file": "wanted.ndjson"})
    state.update_job(job.id, status="running", stage="import")
    state.close()
    with running(settings) as client:
        assert wait_for_job(client, job.to_json())["result"]["accepted"] == 1
        assert client.get("/domains/movies").json()["backbone"] == backbone.fingerprint
        wait_until(lambda: list(shelf.iterdir()) == [])


def test_a_queued_job_that_is_cancelled_never_runs_and_a_running_one_ends_at_its_next_step(
    state: SqliteState,
) -> None:
    going = threading.Event()
    reported = list[str]()

    def work(_: JobRecord, progress: Progress) -> dict[str, Any]:
        going.set()
        while True:
            progress.check()
            time.sleep(0.01)

    jobs = Jobs(state, "one")
    jobs.kinds["work"] = work
    jobs.after["work"] = lambda job: reported.append(job.id)
    jobs.start()
    first, second = (jobs.submit("work", "movies", {}) for _ in range(2))
    assert going.wait(10)
    assert jobs.cancel(second.id).status == "cancelled"
    assert jobs.cancel(first.id).status == "running"
    wait_until(lambda: state.get_job(first.id).status == "cancelled")
    wait_until(lambda: reported == [second.id, first.id])
    jobs.close()
    with pytest.raises(RequestConflict):
        jobs.cancel(first.id)


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


def test_what_was_cancelled_in_another_process_is_not_decided_any_more(state: SqliteState) -> None:
    reported = threading.Event()
    go_on = threading.Event()
    decided = list[str]()

    def work(job: JobRecord, progress: Progress) -> dict[str, Any]:
        reported.set()
        assert go_on.wait(10)
        progress.fence()
        decided.append(job.id)
        return {}

    jobs = Jobs(state, "one")
    jobs.kinds["work"] = work
    jobs.start()
    job = jobs.submit("work", "movies", {})
    assert reported.wait(10)
    state.cancel_job(job.id)
    go_on.set()
    wait_until(lambda: state.get_job(job.id).ended)
    jobs.close()
    assert (state.get_job(job.id).status, decided) == ("cancelled", [])


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


def test_a_gate_that_is_asked_when_the_service_stops_keeps_it_from_nothing(
    state: SqliteState,
) -> None:
    job = state.create_job("activate", "movies", {})
    closing = threading.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asked = asyncio.run_coroutine_threadsafe(never(), loop)
    threading.Timer(0.3, closing.set).start()
    with pytest.raises(Stopped):
        waited(asked, Progress(state, job, closing))
    assert asked.cancelled(), "nobody goes on asking"
    ended = asyncio.run_coroutine_threadsafe(never(), loop)
    threading.Timer(0.3, ended.cancel).start()  # as the server does first with all that runs
    with pytest.raises(Stopped):
        waited(ended, Progress(state, job, threading.Event()))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def never() -> Any:
    await asyncio.sleep(600)
