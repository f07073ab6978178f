"""Opening a Redis: which ones are refused, which are warned of, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import StateError, StateUnavailable
from service.state.redis import RedisState
from service.state.redis import open as redis_open
from service.state.redis.link import shown
from service.state.redis.open import FILE
from tests.service.redis_server import RedisServer
from tests.service.state.outages import healed
from tests.service.state.samples import MOVIES


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
