"""Several real processes on one state: they wake each other, and no two of them hold one job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from service.errors import JobTaken
from service.state import DomainRecord, State
from service.state.sqlite import SqliteState
from service.state.sqlite import file as sqlite_file
from tests.service.conftest import wait_until
from tests.service.redis_server import RedisServer

PEER = Path(__file__).parents[1] / "peer.py"
ROOT = Path(__file__).parents[3]
MOVIES = DomainRecord("movies", "f" * 64, "Films")


class Peer:
    """A process that runs the methods that it is sent."""

    def __init__(self, backend: str, folder: Path, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), backend, str(folder), url],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, method: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()

    def heard(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, method: str, *arguments: Any) -> Any:
        self.send(method, *arguments)
        return self.heard()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[[], Peer]


@pytest.fixture
def start(state: State, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Start another process on the same state."""
    backend = state.describe()["backend"]
    url = request.getfixturevalue("empty_redis").url if backend == "redis" else ""
    peers: list[Peer] = []

    def one() -> Peer:
        peers.append(Peer(backend, tmp_path, url))
        return peers[-1]

    yield one
    for peer in peers:
        peer.end()


def ready(start: Start, count: int) -> list[Peer]:
    """Start processes at once and wait until all of them are there."""
    peers = [start() for _ in range(count)]
    assert [peer.heard() for peer in peers] == ["ready"] * count
    return peers


def test_a_killed_holder_loses_its_job_with_its_lease_and_its_token_is_refused(
    state: State, start: Start
) -> None:
    job = state.create_job("import", "movies", {})
    [peer] = ready(start, 1)
    held = peer.ask("claim_job", "peer", 1.0)
    assert (held["id"], held["owner"]) == (job.id, "peer")
    os.kill(peer.process.pid, signal.SIGKILL)
    assert state.claim_job("heir", 60) is None
    wait_until(lambda: state.claim_job("heir", 60) is not None, 10)
    heir = state.get_job(job.id)
    assert (heir.owner, heir.token > held["token"]) == ("heir", True)
    with pytest.raises(JobTaken):
        state.update_job(job.id, token=held["token"], status="succeeded")
    assert state.get_job(job.id) == heir


def test_a_holder_that_slept_through_its_lease_finds_its_job_taken(
    state: State, start: Start
) -> None:
    job = state.create_job("import", "movies", {})
    [peer] = ready(start, 1)
    held = peer.ask("claim_job", "peer", 0.5)
    os.kill(peer.process.pid, signal.SIGSTOP)
    wait_until(lambda: state.claim_job("heir", 60) is not None, 10)
    os.kill(peer.process.pid, signal.SIGCONT)
    assert peer.ask("holds", "movies", held["token"]) is False
    assert peer.ask("update_job", job.id, held["token"], {"status": "succeeded"}) == "JobTaken"
    assert peer.ask("renew_job", job.id, held["token"], 60) == "JobTaken"
    found = state.get_job(job.id)
    assert (found.owner, found.status) == ("heir", "running")


def test_processes_share_out_jobs_so_that_each_is_done_once_and_in_the_order_of_its_domain(
    state: State, start: Start
) -> None:
    made = {
        name: [state.create_job("import", name, {}).id for _ in range(20)]
        for name in ("books", "movies", "songs")
    }
    peers = ready(start, 3)
    for number, peer in enumerate(peers):
        peer.send("work", f"peer {number}")
    done = sorted(chain.from_iterable(peer.heard() for peer in peers))
    assert len({token for token, _ in done}) == len(done) == 60
    for ids in made.values():
        assert [job_id for _, job_id in done if job_id in ids] == ids


def test_a_write_of_one_process_wakes_another_that_waits(state: State, start: Start) -> None:
    state.put_domain(MOVIES)
    [peer] = ready(start, 1)
    position = state.feed_end()
    incarnation = state.get_domain("movies").incarnation
    peer.send("upsert_items", "movies", [["a", "film"], ["b", "film"]])
    entries = state.follow(position, 20)
    assert entries is not None
    assert [(entry.kind, entry.domain) for entry in entries] == [("items", "movies")]
    assert time.time() - entries[0].at < 1
    found = state.changes("movies", 0, incarnation)
    assert found is not None
    assert [(item.row, item.item_id) for item in found.upserted] == [(0, "a"), (1, "b")]
    peer.heard()
    peer.send("follow", entries[-1].position, 20)
    state.delete_items("movies", ["a"])
    [entry] = peer.heard()
    assert (entry["kind"], entry["domain"], entry["position"]) == (
        "items",
        "movies",
        state.feed_end(),
    )


def test_processes_that_open_a_new_folder_at_once_all_find_it_usable(tmp_path: Path) -> None:
    for turn in range(3):
        peers = [Peer("sqlite", tmp_path / str(turn), "") for _ in range(4)]
        try:
            assert [peer.heard() for peer in peers] == ["ready"] * 4
            assert sorted(peer.ask("put_domain", "movies", "f") for peer in peers) == [
                False,
                False,
                False,
                True,
            ]
        finally:
            for peer in peers:
                peer.end()


def test_replicas_that_open_an_empty_redis_at_once_agree_on_it(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    peers = [Peer("redis", tmp_path / str(number), empty_redis.url) for number in range(3)]
    try:
        assert [peer.heard() for peer in peers] == ["ready"] * 3
        assert sorted(peer.ask("put_domain", "movies", "f") for peer in peers) == [
            False,
            False,
            True,
        ]
    finally:
        for peer in peers:
            peer.end()


OPEN_AND_CLOSE = """
import pathlib, sys
from service.state.sqlite import SqliteState
SqliteState(pathlib.Path(sys.argv[1])).close()
"""


def test_a_look_at_the_file_keeps_its_locks_so_that_no_other_process_removes_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "LOOK_EVERY_S", 0.0)
    state = SqliteState(tmp_path)
    try:
        state.put_domain(MOVIES)
        assert state.domains() == [state.get_domain("movies")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-c", OPEN_AND_CLOSE, str(tmp_path)], check=True, env=environment
        )
        assert (tmp_path / "state.db-wal").exists(), (
            "what is committed there and not yet in the file would be lost"
        )
    finally:
        state.close()
