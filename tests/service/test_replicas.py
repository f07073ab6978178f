"""Two replicas of the service as processes of their own, with one Redis and one data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.conftest import activate, upload, wait_for_job, wait_until
from tests.service.process import start
from tests.service.redis_server import RedisServer
from tests.service.test_crashes import free_port
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle, tiny_texts

ITEMS = [
    {"item_id": f"i{n}", "title": text, "popularity": n % 7}
    for n, text in enumerate(tiny_texts(300))
]
BundleOf = Callable[[int], Path]


class Replica:
    """One process, and a client of it."""

    def __init__(self, data: Path, url: str) -> None:
        self._data = data
        self._redis = url
        self.port = free_port()
        self.process = self._start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def _start(self) -> subprocess.Popen[bytes]:
        return start(self._data, self.port, REDIS_URL=self._redis)

    def again(self) -> None:
        """Start it again where it was killed."""
        self.process = self._start()

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Let it stand still: it sees nothing of what happens."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def ask(self, **wishes: Any) -> dict[str, Any]:
        """Recommend."""
        answer = self.http.post(
            "/recommend?domain=movies", json={"history": ["i0", "i1"], "k": 400, **wishes}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ids(self, **wishes: Any) -> set[str]:
        """Return what it recommends."""
        return {item["item_id"] for item in self.ask(**wishes)["items"]}

    def lag(self) -> float:
        """Return the age of the oldest change that it has not applied."""
        lines = self.http.get("/metrics").text.splitlines()
        return float(
            next(line for line in lines if line.startswith("swaprec_replica_lag_seconds ")).split()[
                1
            ]
        )


@pytest.fixture
def bundle(tmp_path: Path) -> BundleOf:
    backbone = tiny_backbone(tmp_path / "data" / "backbones" / "tiny")
    return lambda seed: tiny_bundle(
        tmp_path / f"{seed}.safetensors", backbone, "movies", tiny_adapter(backbone, seed)
    )


@pytest.fixture
def replicas(
    tmp_path: Path, bundle: BundleOf, own_redis: RedisServer
) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas that answer from version 1 of 300 items."""
    made = bundle(1)
    one = Replica(tmp_path / "data", own_redis.url)
    other = Replica(tmp_path / "data", own_redis.url)
    try:
        one.http.put("/domains/movies", json={})
        one.http.post("/domains/movies/items", json=ITEMS)
        activate(one.http, made)
        wait_until(lambda: _version(other) == 1, 5)
        yield one, other
    finally:
        for replica in (one, other):
            replica.http.close()
            replica.kill()


def _version(replica: Replica) -> Any:
    answer = replica.http.post("/recommend?domain=movies", json={"history": ["i0"]})
    return answer.json().get("version")


def _trouble(replica: Replica) -> str:
    """What a replica says is wrong with its state."""
    degraded: dict[str, str] = replica.http.get("/readyz").json()["degraded"]
    return degraded.get("state", "")


@pytest.mark.slow
def test_what_one_replica_does_the_other_answers_from_within_a_second(
    replicas: tuple[Replica, Replica], bundle: BundleOf
) -> None:
    one, other = replicas
    one.http.put("/domains/movies/items/new", json={"title": "Storm over Oslo"})
    assert "new" in one.ids()
    wait_until(lambda: "new" in other.ids(), 10)
    other.http.patch("/domains/movies/items/i5", json={"available": False})
    wait_until(lambda: "i5" not in one.ids(), 10)
    other.http.delete("/domains/movies/items/i7")
    assert "i7" not in other.ids()
    wait_until(lambda: "i7" not in one.ids(), 10)

    assert upload(other.http, bundle(2)).status_code == 201
    job = other.http.post(
        "/adapters/movies/versions/2/activate", json={"canary_percent": 50}
    ).json()
    assert wait_for_job(one.http, job)["status"] == "succeeded"
    wait_until(lambda: one.http.get("/domains/movies").json()["canary_version"] == 2, 10)
    users = [f"u{number}" for number in range(20)]
    drawn = [[replica.ask(user_id=user, k=1)["version"] for user in users] for replica in replicas]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {1, 2}
    one.http.post("/adapters/movies/versions/2/promote")
    wait_until(lambda: _version(other) == 2, 10)
    other.http.post("/domains/movies/rollback")
    wait_until(lambda: _version(one) == 1, 10)
    assert one.ids() == other.ids()
    assert {"i5", "i7"}.isdisjoint(one.ids())
    assert one.http.delete("/domains/movies").status_code == 204
    wait_until(
        lambda: (
            other.http.post("/recommend?domain=movies", json={"history": []}).status_code == 404
        ),
        10,
    )


@pytest.mark.slow
def test_a_replica_that_was_cut_off_comes_to_where_the_other_is(
    replicas: tuple[Replica, Replica], bundle: BundleOf
) -> None:
    one, other = replicas
    with other.cut_off():
        for number in range(10):
            one.http.put(f"/domains/movies/items/late{number}", json={"title": f"Late {number}"})
        one.http.delete("/domains/movies/items/i3")
        activate(one.http, bundle(2))
        one.http.put("/domains/books", json={})
        time.sleep(2)
    wait_until(lambda: _version(other) == 2, 2)
    wait_until(lambda: other.ids() == one.ids(), 2)
    assert "i3" not in other.ids()
    assert other.http.post("/recommend?domain=books", json={"history": []}).status_code == 200
    wait_until(lambda: other.lag() == 0.0, 2)
    other.http.post("/domains/movies/rollback")
    assert "i3" not in other.ids(), (
        "what was deleted stays gone when the version before answers again"
    )


@pytest.mark.slow
def test_while_redis_is_unavailable_both_answer_and_afterwards_both_follow_again(
    replicas: tuple[Replica, Replica], own_redis: RedisServer
) -> None:
    before = [replica.ids() for replica in replicas]
    own_redis.kill()
    wait_until(lambda: all(replica.ask()["degraded"] for replica in replicas), 5)
    assert [replica.ids() for replica in replicas] == before
    for replica in replicas:
        refused = replica.http.put("/domains/movies/items/lost", json={"title": "Lost"})
        assert (refused.status_code, refused.json()["code"]) == (503, "state_unavailable")
    own_redis.start()
    wait_until(lambda: not any(replica.ask()["degraded"] for replica in replicas), 5)
    one, other = replicas
    assert one.http.put("/domains/movies/items/after", json={"title": "After"}).status_code == 201
    wait_until(lambda: "after" in other.ids(), 2)
    assert "lost" not in one.ids() | other.ids()


@pytest.mark.slow
def test_while_redis_hangs_both_answer_and_afterwards_a_delete_reaches_both(
    replicas: tuple[Replica, Replica], own_redis: RedisServer
) -> None:
    one, other = replicas
    with own_redis.stopped():
        wait_until(lambda: all(replica.ask()["degraded"] for replica in replicas), 10)
        assert one.http.put("/domains/movies/items/lost", json={"title": "Lost"}).status_code == 503
    wait_until(lambda: other.http.delete("/domains/movies/items/i9").status_code == 204, 10)
    assert "i9" not in other.ids()
    wait_until(lambda: "i9" not in one.ids(), 2)
    wait_until(lambda: one.lag() == other.lag() == 0.0, 2)
    assert "lost" not in one.ids() | other.ids()


@pytest.mark.slow
def test_a_redis_that_comes_back_empty_is_no_empty_catalog(
    replicas: tuple[Replica, Replica], own_redis: RedisServer
) -> None:
    before = [replica.ids() for replica in replicas]
    own_redis.kill()
    own_redis.forget()
    own_redis.start()
    wait_until(lambda: all("begin anew" in _trouble(replica) for replica in replicas), 10)
    assert [replica.ids() for replica in replicas] == before
    for replica in replicas:
        assert replica.ask()["degraded"] is True
        refused = replica.http.put("/domains/movies/items/new", json={"title": "New"})
        assert (refused.status_code, refused.json()["code"]) == (503, "state_lost")


@pytest.mark.slow
def test_an_activation_whose_replica_is_killed_is_finished_by_the_other(
    replicas: tuple[Replica, Replica], bundle: BundleOf
) -> None:
    one, other = replicas
    many = [{"item_id": f"n{n}", "title": f"News {n} of the day"} for n in range(3000)]
    assert one.http.post("/domains/movies/items", json=many).status_code == 200
    with other.cut_off():
        job = upload(one.http, bundle(2), activate="true").json()["job"]
        wait_until(lambda: one.http.get(f"/jobs/{job['id']}").json()["stage"] == "embed", 20)
        one.kill()
    wait_until(lambda: other.http.get(f"/jobs/{job['id']}").json()["status"] == "succeeded", 60)
    assert _version(other) == 2
    one.again()
    wait_until(lambda: _version(one) == 2, 5)
    assert len(one.ids(k=500)) == len(other.ids(k=500)) == 500
