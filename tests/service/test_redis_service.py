"""The whole service on Redis: answers go on without it,
writes say so, and everything heals by itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.app import started
from service.data_folder import open_state
from service.errors import StateError
from service.settings import Settings
from service.state.redis import FILE
from service.state.redis.link import TIMEOUT_S
from tests.service.conftest import ITEMS, activate, running, upload, wait_for_job, wait_until
from tests.service.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
ASKED = {"history": ["i1", "i2"], "include": ["metadata"]}


@pytest.fixture
def on_redis(settings: Settings, own_redis: RedisServer) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr(own_redis.url)})


@pytest.fixture
def served(on_redis: Settings, bundle: Callable[..., Path]) -> Iterator[httpx.Client]:
    """A service on Redis with sixty items and an adapter that is live."""
    with running(on_redis) as client:
        assert client.put("/domains/movies", json={"title": "Films"}).status_code == 201
        assert client.post("/domains/movies/items", json=ITEMS).json()["accepted"] == 60
        assert activate(client, bundle(1))["status"] == "succeeded"
        yield client


def asked(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/recommend?domain=movies", json=ASKED)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: httpx.Response, code: str = "state_unavailable") -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (
        503,
        "application/problem+json",
    ), answer.text
    assert answer.json()["code"] == code
    assert int(answer.headers["retry-after"]) > 0


def healthy(client: httpx.Client) -> bool:
    ready = client.get("/readyz")
    assert ready.status_code == 200, "it must stay ready"
    return bool(ready.json()["degraded"] == {})


def test_redis_url_is_read_from_the_environment_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@host")
    found = Settings()
    assert found.redis_url is not None
    assert found.redis_url.get_secret_value() == "redis://:secret@host"
    assert "secret@" not in repr(found)
    monkeypatch.setenv("REDIS_URL", "")
    assert Settings().redis_url is None


def test_the_server_of_the_tests_dies_with_them_whatever_happens() -> None:
    code = "import time; from tests.service.redis_server import redis_running\n"
    code += (
        "with redis_running() as server: print(server.process.pid, server.folder, flush=True);"
        " time.sleep(60)"
    )
    tests = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdout is not None
    pid, folder = tests.stdout.readline().split()
    assert Path(f"/proc/{pid}").exists()
    tests.kill()
    tests.communicate()
    wait_until(lambda: not _runs(int(pid)), 5)
    shutil.rmtree(folder)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_info_says_which_state_is_used(served: httpx.Client, on_redis: Settings) -> None:
    described = served.get("/info").json()["state"]
    assert (described["backend"], described["trouble"], described["warnings"]) == (
        "redis",
        None,
        [],
    )
    assert described["where"].startswith("unix:")
    assert not (on_redis.data / "state.db").exists()


def test_with_redis_killed_answers_go_on_writes_say_so_and_it_heals(
    served: httpx.Client, own_redis: RedisServer, bundle: Callable[..., Path]
) -> None:
    before = asked(served)
    assert (before["version"], before["degraded"]) == (1, False)
    assert before["items"][0]["metadata"]["title"]
    own_redis.kill()
    wait_until(lambda: not healthy(served), 5)
    during = asked(served)
    assert (during["version"], during["degraded"]) == (1, True)
    assert [one["item_id"] for one in during["items"]] == [
        one["item_id"] for one in before["items"]
    ]
    with bundle(2).open("rb") as file:
        refused(served.post("/adapters", files={"file": file}, data={"activate": "true"}))
    refused(served.post("/domains/movies/items", json=[{"item_id": "new", "title": "new"}]))
    refused(
        served.post("/domains/movies/items?wait=false", json=[{"item_id": "new", "title": "new"}])
    )
    refused(served.put("/domains/books", json={}))
    refused(served.delete("/domains/movies"))
    refused(served.post("/domains/movies/rollback"))
    refused(served.get("/jobs"))
    refused(served.post("/recommend?domain=nobody-knows", json=ASKED))
    own_redis.start()
    wait_until(lambda: healthy(served), 5)
    assert (
        served.post("/domains/movies/items", json=[{"item_id": "new", "title": "new"}]).json()[
            "accepted"
        ]
        == 1
    )
    assert served.get("/domains/movies").json()["searchable_items"] == 61
    assert activate(served, bundle(2))["status"] == "succeeded"
    assert (asked(served)["version"], asked(served)["degraded"]) == (2, False)


def test_with_redis_hanging_recommendations_stay_fast(
    served: httpx.Client, own_redis: RedisServer
) -> None:
    asked(served)
    with own_redis.stopped():
        slowest = 0.0
        until = time.monotonic() + 4
        while time.monotonic() < until:
            began = time.monotonic()
            assert (
                served.post("/recommend?domain=movies", json={"history": ["i1"]}).status_code == 200
            )
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < TIMEOUT_S, "a recommendation waited for Redis"
        assert not healthy(served)
        refused(served.put("/domains/books", json={}))
    wait_until(lambda: healthy(served), 5)


def test_emptied_redis_is_not_served_and_the_next_start_refuses_it(
    on_redis: Settings, own_redis: RedisServer
) -> None:
    with running(on_redis) as client:
        client.put("/domains/movies", json={})
        client.post("/domains/movies/items", json=ITEMS)
        own_redis.ask("FLUSHALL")
        refused(client.get("/domains"), "state_lost")
        refused(client.put("/domains/movies", json={}), "state_lost")
        assert asked(client)["items"][0]["source"] == "model"
        assert "begin anew" in client.get("/readyz").json()["degraded"]["state"]
    with pytest.raises(StateError, match="is empty, while the data folder"):
        open_state(on_redis)
    with pytest.raises(StateError, match="is in Redis: set REDIS_URL"):
        open_state(on_redis.model_copy(update={"redis_url": None}))


def test_an_empty_redis_does_not_take_the_place_of_a_used_state_file(
    settings: Settings, on_redis: Settings
) -> None:
    with running(settings) as client:
        client.put("/domains/movies", json={})
    with pytest.raises(StateError, match="knows the domains movies"):
        open_state(on_redis)
    assert not (settings.data / FILE).exists()


def test_a_full_redis_is_out_of_space_and_answers_go_on(
    served: httpx.Client, own_redis: RedisServer
) -> None:
    own_redis.ask("CONFIG", "SET", "maxmemory", 1)
    answer = served.post("/domains/movies/items", json=[{"item_id": "new", "title": "new"}])
    assert (answer.status_code, answer.json()["code"]) == (507, "out_of_space")
    assert asked(served)["items"][0]["metadata"]["title"]
    own_redis.ask("CONFIG", "SET", "maxmemory", 0)
    assert (
        served.post("/domains/movies/items", json=[{"item_id": "new", "title": "new"}]).status_code
        == 200
    )


def test_an_import_outlives_its_redis_and_counts_every_row_once(
    on_redis: Settings, own_redis: RedisServer
) -> None:
    items = [{"item_id": f"i{n}", "title": f"film {n}"} for n in range(20_000)]
    with running(on_redis) as client:
        client.put("/domains/movies", json={})
        job = client.post("/domains/movies/items?wait=false", json=items).json()
        wait_until(lambda: client.get(f"/jobs/{job['id']}").json()["done"] > 0)
        own_redis.kill()
        wait_until(lambda: not healthy(client), 5)
        own_redis.start()
        wait_until(lambda: healthy(client), 5)
        found = client.get(f"/jobs/{job['id']}").json()
        assert found["status"] == "running", "it was killed too late to prove anything"
        ended = wait_for_job(client, job)
        assert ended["status"] == "succeeded", ended
        result = ended["result"]
        assert result["accepted"] + result["unchanged"] == 20_000
        assert result["unchanged"] in (0, 1000), (
            "of the rows that were on their way it is not known"
        )
        assert client.get("/domains/movies").json()["searchable_items"] == 20_000


def test_an_activation_waits_for_its_redis(
    served: httpx.Client, own_redis: RedisServer, bundle: Callable[..., Path]
) -> None:
    more = [{"item_id": f"n{n}", "title": f"film {n}"} for n in range(5000)]
    served.post("/domains/movies/items", json=more)
    accepted = upload(served, bundle(2), activate="true").json()
    own_redis.kill()
    wait_until(lambda: not healthy(served), 5)
    assert asked(served)["version"] == 1
    own_redis.start()
    wait_until(lambda: healthy(served), 5)
    assert wait_for_job(served, accepted["job"])["status"] == "succeeded"
    assert asked(served)["version"] == 2


def test_a_service_that_starts_while_redis_goes_away_comes_up_by_itself(
    on_redis: Settings, own_redis: RedisServer, bundle: Callable[..., Path]
) -> None:
    with running(on_redis) as client:
        for name in ("movies", "books"):
            client.put(f"/domains/{name}", json={})
            client.post(f"/domains/{name}/items", json=ITEMS)
        assert activate(client, bundle(1))["status"] == "succeeded"
    with started(on_redis) as components:
        own_redis.kill()
        components.follower.start()
        wait_until(lambda: components.state.trouble() is not None, 5)
        assert components.live.loading == {"movies": "being restored"}, (
            "it cannot be done without Redis"
        )
        own_redis.start()
        wait_until(
            lambda: (
                {deployment.live.domain for deployment in components.live.all()}
                == {"movies", "books"}
            )
        )
        assert components.live.loading == {}
        assert components.live.broken == {}


def test_everything_is_live_again_after_a_restart(
    on_redis: Settings, bundle: Callable[..., Path]
) -> None:
    with running(on_redis) as client:
        client.put("/domains/movies", json={})
        client.post("/domains/movies/items", json=ITEMS)
        assert activate(client, bundle(1))["status"] == "succeeded"
        before = asked(client)
    with running(on_redis) as client:
        after = asked(client)
    assert (after["version"], after["items"]) == (1, before["items"])
    assert after["index_generation"] == before["index_generation"]


def test_without_redis_the_service_says_so_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "SWAPREC_DATA": str(tmp_path), "SWAPREC_PORT": "0"}
    environment["REDIS_URL"] = "redis://:secret@127.0.0.1:1/0"
    command = [sys.executable, "-m", "swaprec", "serve"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "redis://127.0.0.1:1/0 does not answer" in done.stderr
    assert "start it, or correct REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr + done.stdout
