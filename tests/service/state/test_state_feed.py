"""The change feed: what is announced,
who is woken, what a reader who was away learns, on each backend.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from service.state import DomainRecord, FeedEntry, Probe, State, StoredItem
from service.state.sqlite import SqliteState
from service.state.sqlite import feed as sqlite_feed
from tests.service.redis_server import RedisServer

MOVIES = DomainRecord("movies", "f" * 64, "Films")
ITEM = StoredItem("a", "film")


def logged(entries: list[FeedEntry] | None) -> list[tuple[str, str]]:
    assert entries is not None
    return [(entry.kind, entry.domain) for entry in entries]


def since(state: State, write: Callable[[], object]) -> list[tuple[str, str]]:
    """What the feed says of a write."""
    position = state.feed_end()
    write()
    return logged(state.follow(position, 0))


def test_every_write_is_announced_and_one_that_changes_nothing_is_not(state: State) -> None:
    assert since(state, lambda: state.put_domain(MOVIES)) == [("domain", "movies")]
    assert since(state, lambda: state.put_domain(MOVIES)) == []
    assert since(state, lambda: state.put_domain(DomainRecord("movies", "f" * 64, "Other"))) == [
        ("domain", "movies")
    ]
    assert since(state, lambda: state.upsert_items("movies", [ITEM])) == [("items", "movies")]
    assert since(state, lambda: state.upsert_items("movies", [ITEM])) == []
    assert since(state, lambda: state.replace_item("movies", ITEM, StoredItem("a", "x"))) == [
        ("items", "movies")
    ]
    assert since(state, lambda: state.replace_item("movies", ITEM, StoredItem("a", "y"))) == []
    assert since(state, lambda: state.delete_items("movies", ["a"])) == [("items", "movies")]
    assert since(state, lambda: state.delete_items("movies", ["a"])) == []
    assert since(state, lambda: state.put_probes("movies", [Probe(["a"], "b")])) == [
        ("probes", "movies")
    ]
    assert since(state, lambda: state.announce("standing", "movies")) == [("standing", "movies")]
    assert since(state, lambda: state.delete_domain("movies")) == [("gone", "movies")]


def test_a_job_is_announced_when_somebody_else_has_to_look_at_it(state: State) -> None:
    job = [("job", "movies")]
    assert since(state, lambda: state.create_job("import", "movies", {})) == job
    taken = state.claim_job("one", 60)
    assert taken is not None
    assert since(state, lambda: state.update_job(taken.id, token=taken.token, done=1)) == []
    assert since(state, lambda: state.renew_job(taken.id, taken.token, 60)) == []
    assert since(state, lambda: state.cancel_job(taken.id)) == job
    assert since(state, lambda: state.cancel_job(taken.id)) == []
    assert since(state, lambda: state.release_job(taken.id, taken.token)) == job
    assert since(state, lambda: state.cancel_job(taken.id)) == job
    ended = state.create_job("import", "movies", {})
    assert since(state, lambda: state.update_job(ended.id, status="failed")) == job
    assert since(state, lambda: state.update_job(ended.id, status="failed")) == []


def test_entries_of_equal_meaning_come_as_one_with_the_last_position_and_the_first_time(
    state: State,
) -> None:
    began = time.time()
    position = state.feed_end()
    for kind in ("items", "standing", "items"):
        state.announce(kind, "movies")
        time.sleep(0.02)
    state.announce("items", "books")
    entries = state.follow(position, 0)
    assert logged(entries) == [("standing", "movies"), ("items", "movies"), ("items", "books")]
    assert entries is not None
    activated, movies, books = entries
    assert began - 0.01 <= movies.at < activated.at < books.at <= time.time() + 0.01
    assert logged(state.follow(activated.position, 0)) == [("items", "movies"), ("items", "books")]
    assert books.position == state.feed_end()
    assert state.follow(books.position, 0) == []


def test_who_waits_is_woken_at_once_by_another_thread_and_by_nothing_after_the_time(
    state: State,
) -> None:
    position = state.feed_end()
    began = time.monotonic()
    assert state.follow(position, 0.2) == []
    assert 0.19 < time.monotonic() - began < 2
    written: list[float] = []

    def write() -> None:
        state.announce("items", "movies")
        written.append(time.monotonic())

    timer = threading.Timer(0.2, write)
    timer.start()
    assert logged(state.follow(position, 20)) == [("items", "movies")]
    assert time.monotonic() - written[0] < 0.5
    timer.join()


def test_positions_outlive_a_restart(state: State, reopen: Callable[[], State]) -> None:
    position = state.feed_end()
    state.announce("items", "movies")
    again = reopen()
    assert logged(again.follow(position, 0)) == [("items", "movies")]
    again.close()


def test_closing_lets_those_who_wait_go(reopen: Callable[[], State]) -> None:
    state = reopen()
    found = list[list[FeedEntry] | None]()
    reader = threading.Thread(target=lambda: found.append(state.follow(state.feed_end(), 60)))
    reader.start()
    time.sleep(0.1)
    state.close()
    reader.join(5)
    assert found == [[]]


@pytest.fixture
def forgetful(
    state: State, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> State:
    """A state whose feed is as long as it may be,
    and forgets its oldest entries with the next one.
    """
    if isinstance(state, SqliteState):
        monkeypatch.setattr(sqlite_feed, "KEPT_ENTRIES", 100)
        for number in range(100):
            state.announce("items", f"d{number}")
        return state
    server: RedisServer = request.getfixturevalue("empty_redis")
    server.ask(
        "EVAL",
        "for n = 1, 10099 do redis.call('XADD', KEYS[1], n .. '-0', 'kind', 'items', 'domain', 'd'"
        " .. n, 'at', 0) end redis.call('SET', KEYS[2], 10099)",
        2,
        "swaprec:{state}:feed",
        "swaprec:{state}:feed-count",
    )
    return state


def test_a_reader_who_was_away_too_long_is_noticed_and_the_feed_does_not_grow(
    forgetful: State, request: pytest.FixtureRequest
) -> None:
    position = forgetful.feed_end()
    for _ in range(5):
        forgetful.announce("standing", "movies")
    assert logged(forgetful.follow(position, 0)) == [("standing", "movies")]
    assert forgetful.follow("0", 0) is None
    assert forgetful.follow(str(int(position) + 9), 0) is None
    if isinstance(forgetful, SqliteState):
        [(kept,)] = forgetful.file.connection().execute("SELECT count(*) FROM feed")
        assert kept == 100
    else:
        server: RedisServer = request.getfixturevalue("empty_redis")
        assert 10_000 <= server.ask("XLEN", "swaprec:{state}:feed") <= 10_100
