"""Redis gone, slow, full, back, back empty: what is said, what is kept.

Each on a real server that is really killed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from adapters_store.errors import OutOfSpace
from service.errors import StateError, StateLost, StateUnavailable
from service.state import Deleted, DomainRecord, StoredItem, Upserted, redis_open
from service.state.redis import RedisState
from service.state.redis_link import shown
from service.state.redis_open import FILE
from tests.service.catalog_rows import read_catalog
from tests.service.conftest import wait_until
from tests.service.redis_server import RedisServer

MOVIES = DomainRecord("movies", "f" * 64, "Films")


@pytest.fixture
def state(own_redis: RedisServer, tmp_path: Path) -> Iterator[RedisState]:
    opened = RedisState(own_redis.url, tmp_path)
    opened.put_domain(MOVIES)
    opened.upsert_items("movies", [StoredItem("a", "kept")])
    yield opened
    opened.close()


def healed(state: RedisState) -> None:
    wait_until(lambda: state.trouble() is None, 5)


def seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(StateUnavailable):
        call()
    return time.monotonic() - began


@pytest.mark.parametrize(
    "url", ["unix:///nowhere/s", "redis://user:secret@127.0.0.1:1/0?password=secret"]
)
def test_without_redis_the_error_says_where_and_what_to_do_but_no_password(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(
        StateError, match=r"does not answer: .*start it, or correct REDIS_URL"
    ) as caught:
        RedisState(url, tmp_path)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / FILE).exists()


def test_a_url_is_shown_without_password_and_options() -> None:
    assert shown("redis://user:secret@host:6379/3?password=secret") == "redis://user@host:6379/3"
    assert shown("rediss://:secret@[::1]:6380") == "rediss://[::1]:6380"
    assert shown("redis://[") == "REDIS_URL"


def test_what_is_no_url_of_redis_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"expected redis://host:6379/0"):
        RedisState("http://host", tmp_path)


def test_a_wrong_password_is_named_as_that(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.ask("CONFIG", "SET", "requirepass", "right")
    for credentials in ("", ":wrong-secret@"):
        url = own_redis.url.replace("unix://", f"unix://{credentials}")
        with pytest.raises(StateError, match="refuses user or password") as caught:
            RedisState(url, tmp_path)
        assert "wrong-secret" not in str(caught.value)
    RedisState(own_redis.url.replace("unix://", "unix://:right@"), tmp_path).close()


def test_a_redis_that_throws_items_away_is_refused(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.ask("CONFIG", "SET", "maxmemory", 100_000_000, "maxmemory-policy", "allkeys-lru")
    with pytest.raises(StateError, match="maxmemory-policy allkeys-lru: it would throw items away"):
        RedisState(own_redis.url, tmp_path)


def test_a_redis_that_forgets_is_warned_of(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.ask("CONFIG", "SET", "appendonly", "no", "maxmemory-policy", "volatile-lru")
    opened = RedisState(own_redis.url, tmp_path)
    warnings = " ".join(opened.describe()["warnings"])
    assert "appendonly off" in warnings
    assert "volatile-lru" in warnings
    opened.close()
    own_redis.ask(
        "CONFIG",
        "SET",
        "appendonly",
        "yes",
        "appendfsync",
        "everysec",
        "maxmemory-policy",
        "noeviction",
    )
    opened = RedisState(own_redis.url, tmp_path)
    assert ["appendfsync always" in warning for warning in opened.describe()["warnings"]] == [True]
    opened.close()


def test_a_replica_is_refused_and_one_that_becomes_it_is_waited_for(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    opened = RedisState(own_redis.url, tmp_path)
    opened.put_domain(MOVIES)
    own_redis.ask("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(StateError, match="is a replica"):
        RedisState(own_redis.url, tmp_path)
    with pytest.raises(StateUnavailable, match="read only replica"):
        opened.put_domain(MOVIES)
    assert opened.trouble()
    own_redis.ask("REPLICAOF", "NO", "ONE")
    healed(opened)
    assert not opened.put_domain(MOVIES)
    opened.close()


def test_an_old_redis_is_refused(
    empty_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no old one to install beside the new one.
    monkeypatch.setattr(redis_open, "OLDEST", (99, 0))
    with pytest.raises(StateError, match=r"is Redis [0-9.]+, expected 7\.0 or later"):
        RedisState(empty_redis.url, tmp_path)


def test_state_of_a_newer_version_is_not_touched(empty_redis: RedisServer, tmp_path: Path) -> None:
    RedisState(empty_redis.url, tmp_path).close()
    empty_redis.ask("SET", "swaprec:{state}:schema", "99")
    with pytest.raises(StateError, match="schema 99"):
        RedisState(empty_redis.url, tmp_path)


def test_an_empty_redis_is_refused_where_the_data_folder_knows_domains(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    with pytest.raises(StateError, match=r"is empty, while .* knows the domains books, movies"):
        RedisState(empty_redis.url, tmp_path, {"movies", "books"})
    assert empty_redis.ask("DBSIZE") == 0
    (tmp_path / FILE).write_text("any\n")
    RedisState(empty_redis.url, tmp_path, {"movies", "books"}).close()
    RedisState(empty_redis.url, tmp_path, {"movies", "books"}).close()


def test_the_redis_of_another_data_folder_is_refused(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    two = tmp_path / "two"
    RedisState(empty_redis.url, one).close()
    empty_redis.ask("FLUSHALL")
    with pytest.raises(
        StateError, match=r"is empty, while the data folder .*one was used with epoch"
    ):
        RedisState(empty_redis.url, one)
    RedisState(empty_redis.url, two).close()
    with pytest.raises(StateError, match="belongs to another data folder"):
        RedisState(empty_redis.url, one)
    RedisState(empty_redis.url, tmp_path / "a new replica").close()


def test_killed_and_started_again_it_has_everything_and_goes_on_by_itself(
    state: RedisState, own_redis: RedisServer
) -> None:
    job = state.create_job("import", "movies", {"n": 1})
    before = read_catalog(state, "movies")
    own_redis.kill()
    for call in (
        lambda: state.generation("movies"),
        lambda: state.put_domain(MOVIES),
        lambda: state.get_job(job.id),
    ):
        assert seconds(call) < 1
    assert "does not answer" in (state.trouble() or "")
    own_redis.start()
    healed(state)
    assert read_catalog(state, "movies") == before
    assert state.get_job(job.id) == job
    assert state.upsert_items("movies", [StoredItem("b", "new")]).generation == 2


EVERYTHING: dict[str, Callable[[RedisState], object]] = {
    "catalog": lambda state: state.list_items("movies", -1, 10),
    "domains": lambda state: state.domains(),
    "items": lambda state: state.items_by_id("movies", ["a"]),
    "jobs": lambda state: state.jobs(),
    "put": lambda state: state.put_domain(MOVIES),
    "upsert": lambda state: state.upsert_items("movies", [StoredItem("a", "x")]),
    "generation": lambda state: state.generation("movies"),
    "delete": lambda state: state.delete_domain("movies"),
    "job": lambda state: state.create_job("import", "movies", {}),
    "claim": lambda state: state.claim_job("one", 60),
    "holds": lambda state: state.holds("movies", 1),
    "take out": lambda state: state.delete_items("movies", ["a"]),
    "replace": lambda state: state.replace_item(
        "movies", StoredItem("a", "x"), StoredItem("a", "y")
    ),
    "changes": lambda state: state.changes("movies", 0, ""),
    "announce": lambda state: state.announce("standing", "movies"),
    "follow": lambda state: state.follow("0", 5),
}


@pytest.mark.parametrize("what", EVERYTHING)
def test_emptied_while_it_runs_it_is_never_taken_for_an_empty_catalog(
    what: str, empty_redis: RedisServer, tmp_path: Path
) -> None:
    state = RedisState(empty_redis.url, tmp_path)
    state.put_domain(MOVIES)
    empty_redis.ask("FLUSHALL")
    for _ in range(2):  # found by itself the first time, known the second
        with pytest.raises(StateLost, match="is not the Redis that this service wrote to"):
            EVERYTHING[what](state)
    state.close()
    assert empty_redis.ask("DBSIZE") == 0


def test_back_empty_it_is_refused_and_back_with_its_file_it_goes_on(
    state: RedisState, own_redis: RedisServer
) -> None:
    own_redis.kill()
    kept = own_redis.folder / "kept"
    (own_redis.folder / "appendonlydir").rename(kept)
    own_redis.start()
    wait_until(lambda: "is not the Redis" in (state.trouble() or ""), 5)
    with pytest.raises(StateLost):
        state.list_items("movies", -1, 10)
    own_redis.kill()
    own_redis.forget()
    kept.rename(own_redis.folder / "appendonlydir")
    own_redis.start()
    healed(state)
    assert read_catalog(state, "movies").ids == ["a"]


def test_a_redis_that_hangs_costs_one_timeout_then_nothing(
    state: RedisState, own_redis: RedisServer
) -> None:
    with own_redis.stopped():
        assert seconds(lambda: state.upsert_items("movies", [StoredItem("b", "given up")])) < 3
        assert seconds(lambda: state.upsert_items("movies", [StoredItem("c", "given up")])) < 0.1
        assert seconds(lambda: state.generation("movies")) < 0.1
    healed(state)
    assert "c" not in read_catalog(state, "movies").ids


def test_who_follows_the_feed_learns_that_redis_is_unavailable_and_goes_on_where_it_was(
    state: RedisState, own_redis: RedisServer
) -> None:
    position = state.feed_end()
    killer = threading.Timer(0.3, own_redis.kill)
    killer.start()
    assert seconds(lambda: state.follow(position, 20)) < 2
    killer.join()
    own_redis.start()
    healed(state)
    state.upsert_items("movies", [StoredItem("b", "new")])
    assert [entry.kind for entry in state.follow(position, 20) or []] == ["items"]
    position = state.feed_end()
    hanging = ExitStack()
    stopper = threading.Timer(0.3, lambda: hanging.enter_context(own_redis.stopped()))
    stopper.start()
    with hanging:
        assert seconds(lambda: state.follow(position, 20)) < 5
        stopper.join()


def test_a_lease_runs_on_while_redis_is_unavailable_and_a_claim_is_not_forgotten(
    state: RedisState, own_redis: RedisServer
) -> None:
    job = state.create_job("import", "movies", {})
    held = state.claim_job("one", 60)
    assert held is not None
    own_redis.kill()
    assert seconds(lambda: state.renew_job(job.id, held.token, 60)) < 1
    own_redis.start()
    healed(state)
    assert state.holds("movies", held.token)
    assert state.claim_job("two", 60) is None
    state.renew_job(job.id, held.token, 0)
    claimed = state.claim_job("two", 60)
    assert claimed is not None
    assert claimed.token == held.token + 1


def test_a_job_that_nobody_acknowledged_does_not_run_one_day(
    state: RedisState, own_redis: RedisServer
) -> None:
    with own_redis.stopped():
        assert seconds(lambda: state.create_job("activate", "movies", {"version": 1})) < 3
    healed(state)
    assert state.jobs() == []
    assert state.jobs("movies") == []


def test_a_full_redis_refuses_whole_writes_and_takes_small_and_freeing_ones(
    state: RedisState, own_redis: RedisServer
) -> None:
    job = state.create_job("import", "movies", {})
    used = own_redis.ask("INFO", "memory")["used_memory"]
    own_redis.ask("CONFIG", "SET", "maxmemory", used + 3_000_000)
    stored = 1
    with pytest.raises(OutOfSpace, match="is full"):  # noqa: PT012 - one of many is refused, not known which
        for turn in range(100):
            state.upsert_items(
                "movies", [StoredItem(f"{turn}-{n}", "x" * 1000) for n in range(100)]
            )
            stored += 100
    rows = read_catalog(state, "movies")
    assert (len(rows.ids), rows.generation) == (stored, 1 + stored // 100)
    assert state.update_job(job.id, status="failed", error={"detail": "full"}).ended
    assert state.trouble() is None
    state.delete_domain("movies")
    state.put_domain(MOVIES)
    assert state.upsert_items("movies", [StoredItem("a", "there is room again")]).accepted == 1


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


def test_dropped_connections_lose_nothing_and_do_nothing_twice(
    state: RedisState, own_redis: RedisServer
) -> None:
    ended = threading.Event()

    def drop() -> None:
        while not ended.is_set():
            own_redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.002)

    def write(worker: int) -> None:
        for number in range(50):
            while True:
                try:
                    state.upsert_items("movies", [StoredItem(f"{worker}-{number}", "film")])
                except StateUnavailable:
                    time.sleep(0.05)
                else:
                    break

    dropper = threading.Thread(target=drop)
    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in (dropper, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    dropper.join()
    healed(state)
    rows = read_catalog(state, "movies")
    assert (len(rows.ids), len(set(rows.ids)), rows.generation) == (201, 201, 201)
