"""Redis gone, slow, full, back, back empty: what is said, what is kept.

Each on a real server that is really killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters_store.errors import OutOfSpace
from service.errors import StateLost, StateUnavailable
from service.state import StoredItem
from service.state.redis import RedisState
from tests.service.catalog_rows import read_catalog
from tests.service.conftest import wait_until
from tests.service.redis_server import RedisServer
from tests.service.state.outages import healed, seconds
from tests.service.state.samples import MOVIES


@pytest.fixture
def state(own_redis: RedisServer, tmp_path: Path) -> Iterator[RedisState]:
    opened = RedisState(own_redis.url, tmp_path)
    opened.put_domain(MOVIES)
    opened.upsert_items("movies", [StoredItem("a", "kept")])
    yield opened
    opened.close()


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
