"""Followers of jobs: many cost as much as one,
and no stream outlives its job, its key or the service.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from service.access.keys import KeyFile
from service.http import dependencies, job_events
from service.jobs import Progress
from service.settings import Settings
from service.state import JobRecord
from service.state.sqlite import SqliteState
from tests.service import process
from tests.service.conftest import components_of, running, wait_until
from transrec.backbone import Backbone

PORT = 18467


@contextmanager
def waiting(client: httpx.Client) -> Iterator[JobRecord]:
    """A job of `movies` that runs until the block ends."""
    go_on = threading.Event()

    def wait(_: JobRecord, progress: Progress) -> dict[str, Any]:
        progress.stage("wait")
        while not go_on.wait(0.05):
            progress.check()
        return {}

    jobs = components_of(client).jobs
    jobs.kinds["wait"] = wait
    job = jobs.submit("wait", "movies", {})
    try:
        yield job
    finally:
        go_on.set()


def follow(client: httpx.Client, job: JobRecord, got: list[str]) -> threading.Thread:
    """Follow a job in a thread until its stream ends."""

    def read() -> None:
        with client.stream("GET", f"/jobs/{job.id}/events") as answer:
            got.extend(answer.iter_lines())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def events(lines: list[str]) -> list[tuple[str, dict[str, Any]]]:
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return list(zip(kinds, data, strict=True))


def test_many_followers_read_the_job_as_often_as_one(
    movies: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "LOOK_EVERY_S", 0.03)
    streams: list[list[str]] = [[] for _ in range(30)]
    with ExitStack() as opened, waiting(movies) as job:
        clients = [
            opened.enter_context(httpx.Client(base_url=movies.base_url, timeout=30))
            for _ in streams
        ]
        threads = [follow(client, job, got) for client, got in zip(clients, streams, strict=True)]
        followed = components_of(movies).job_events
        wait_until(
            lambda: job.id in followed._followed and followed._followed[job.id].followers == 30
        )
        before = followed.reads
        began = time.monotonic()
        wait_until(lambda: followed.reads - before >= 10)
        assert time.monotonic() - began > 9 * 0.03
        for thread in threads:
            opened.callback(thread.join, 10)
    for got in streams:
        assert events(got)[-1][1]["status"] == "succeeded"


def test_more_followers_than_allowed_are_refused(
    movies: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "MAX_FOLLOWERS_PER_JOB", 1)
    with waiting(movies) as job:
        thread = follow(movies, job, [])
        wait_until(lambda: job.id in components_of(movies).job_events._followed)
        refused = httpx.get(f"{movies.base_url}/jobs/{job.id}/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_at_once")
        assert movies.get(f"/jobs/{job.id}").status_code == 200
    thread.join(10)
    assert components_of(movies).job_events._followed == {}


def test_a_stream_ends_with_its_domain_and_says_so(movies: httpx.Client) -> None:
    got: list[str] = []
    with waiting(movies) as job:
        thread = follow(movies, job, got)
        wait_until(lambda: got != [])
        assert movies.delete("/domains/movies").status_code == 204
        thread.join(5)
    assert [(kind, data.get("code")) for kind, data in events(got)][-1] == ("end", "job_not_found")


@pytest.fixture
def keyed(
    settings: Settings, backbone: Backbone
) -> Iterator[tuple[httpx.Client, Callable[[], object]]]:
    """A service with `movies`, reached with a key, and what revokes that key."""
    assert backbone.fingerprint
    file = KeyFile(settings.data / "keys.json")
    key, token = file.add("ops", "admin")
    with running(settings, token) as client:
        client.put("/domains/movies", json={})
        yield client, lambda: file.revoke(key.id)


def test_a_stream_ends_with_its_key_and_says_so(
    keyed: tuple[httpx.Client, Callable[[], object]],
) -> None:
    client, revoke = keyed
    got: list[str] = []
    with waiting(client) as job:
        thread = follow(client, job, got)
        wait_until(lambda: got != [])
        revoke()
        thread.join(3)
        assert not thread.is_alive()
    assert [(kind, data.get("code")) for kind, data in events(got)][-1] == ("end", "unauthorized")


def test_a_body_that_is_on_its_way_ends_with_its_key(
    keyed: tuple[httpx.Client, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, revoke = keyed
    monkeypatch.setattr(dependencies, "CHECK_EVERY_S", 0.05)

    def rows() -> Iterator[bytes]:
        yield b'{"item_id": "a", "title": "storm"}\n'
        revoke()
        for _ in range(40):
            time.sleep(0.1)
            yield b'{"item_id": "b", "title": "storm"}\n'

    kind = {"Content-Type": "application/x-ndjson"}
    try:
        status = client.post("/domains/movies/items", content=rows(), headers=kind).status_code
    except httpx.TransportError:  # the answer came before the body ended
        status = 401
    assert status == 401
    assert components_of(client).state.count_items("movies") == 0


def test_streams_end_when_the_service_stops(settings: Settings, backbone: Backbone) -> None:
    assert backbone.fingerprint
    server = process.start(settings.data, PORT)
    got: list[str] = []
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=30) as client:
            client.put("/domains/movies", json={})
            state = SqliteState(settings.data)
            job = state.create_job("fold", "movies", {})
            assert state.claim_job("somebody else", 60.0) is not None
            thread = follow(client, job, got)
            wait_until(lambda: got != [])
            server.send_signal(signal.SIGTERM)
            assert server.wait(8) == 0, "not the thirty seconds that answers are waited for"
            thread.join(5)
            state.close()
    finally:
        server.kill()
        server.wait()
    assert [(kind, data.get("code")) for kind, data in events(got)][-1] == ("end", "stopping")
