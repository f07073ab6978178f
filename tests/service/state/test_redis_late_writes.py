"""Writes that arrive late, and answers that get lost, between the state and a real Redis."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.state import Deleted, DomainRecord, StoredItem, Upserted
from service.state.redis import RedisState
from tests.service.catalog_rows import read_catalog
from tests.service.redis_server import RedisServer
from tests.service.state.outages import healed, seconds
from tests.service.state.samples import MOVIES


class Between:
    """Stands between state and Redis;
    told to, it keeps one answer to itself, or one write until it may go on.
    """

    def __init__(self, folder: Path) -> None:
        self.server = str(folder / "s")
        self.url = f"unix://{folder}/between"
        self.swallow = False
        self.hold = False
        self.go_on = threading.Event()
        self.passed_on = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "between"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far, suppress(OSError):
            far.connect(self.server)
            while asked := near.recv(1 << 20):
                write = b"EVALSHA" in asked
                if held := self.hold and write:
                    self.hold = False
                    self.go_on.wait(20)
                far.sendall(asked)
                answer = far.recv(1 << 20)
                if held:
                    self.passed_on.set()
                if self.swallow and write:
                    self.swallow = False
                    return
                near.sendall(answer)


@pytest.fixture
def between(own_redis: RedisServer) -> Iterator[Between]:
    opened = Between(own_redis.folder)
    yield opened
    opened.close()


def test_a_write_that_was_given_up_and_arrives_late_does_not_undo_a_later_one(
    between: Between, tmp_path: Path
) -> None:
    state = RedisState(between.url, tmp_path)
    state.put_domain(MOVIES)
    state.upsert_items("movies", [StoredItem("a", "before")])
    between.hold = True
    assert seconds(lambda: state.upsert_items("movies", [StoredItem("a", "given up")])) < 3
    healed(state)
    state.upsert_items("movies", [StoredItem("a", "later")])
    between.go_on.set()
    assert between.passed_on.wait(5)
    assert read_catalog(state, "movies").texts == ["later"]
    state.close()


def test_a_job_that_nobody_acknowledged_does_not_begin_when_it_arrives_late(
    between: Between, tmp_path: Path
) -> None:
    state = RedisState(between.url, tmp_path)
    state.create_job("import", "books", {})
    between.hold = True
    assert seconds(lambda: state.create_job("activate", "movies", {"version": 1})) < 3
    healed(state)
    between.go_on.set()
    assert between.passed_on.wait(5)
    assert [job.domain for job in state.jobs()] == ["books"]
    state.close()


def test_a_write_whose_answer_is_lost_is_done_once_and_answered_as_if_nothing_was(
    between: Between, tmp_path: Path
) -> None:
    state = RedisState(between.url, tmp_path)

    def all_writes(name: str, *, lost: bool) -> list[Any]:
        writes: list[Callable[[], Any]] = [
            lambda: state.put_domain(DomainRecord(name, "f")),
            lambda: state.upsert_items(name, [StoredItem("a", "film"), StoredItem("b", "film")]),
            lambda: state.replace_item(name, StoredItem("a", "film"), StoredItem("a", "new")),
            lambda: state.delete_items(name, ["b", "zz"]),
            lambda: state.create_job("import", name, {}).status,
            lambda: [
                job and job.kind for job in (state.claim_job("one", 60), state.claim_job("two", 60))
            ],
            lambda: state.renew_job(state.jobs(name)[0].id, state.jobs(name)[0].token, 60).status,
            lambda: state.release_job(state.jobs(name)[0].id, state.jobs(name)[0].token).status,
            lambda: state.cancel_job(state.jobs(name)[0].id).status,
            lambda: len(state.jobs(name)),
            lambda: state.delete_domain(name),
        ]
        answers = []
        for write in writes:
            between.swallow = lost
            answers.append(write())
        return answers

    as_always = all_writes("movies", lost=False)
    catalog = [Upserted(2, 0, 0, 1), Upserted(0, 1, 0, 2), Deleted(1, ["zz"], 3)]
    jobs = ["queued", ["import", None], "running", "queued", "cancelled", 1]
    assert as_always == [True, *catalog, *jobs, None]
    assert all_writes("movies", lost=True) == as_always
    assert not between.swallow
    assert state.trouble() is None
    state.close()
