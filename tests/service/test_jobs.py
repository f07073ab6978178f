from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import PayloadTooLarge, RequestConflict
from service.jobs import Jobs, Progress, Stopped
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
