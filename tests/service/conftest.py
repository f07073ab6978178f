"""A real service on a real port, with a tiny real backbone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from service.app import TUNING, Tuning, create_app
from service.http.components import Components
from service.server import listen, server_config
from service.settings import Settings
from service.state import State
from service.state.redis import RedisState
from service.state.sqlite import SqliteState
from tests.service.redis_server import RedisServer, redis_running
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle, tiny_texts
from transrec.backbone import Backbone

JOB_S = 60.0
"""Seconds that a job may need on a machine that is busy:
some start a process and load torch in it.
"""

ITEMS: list[dict[str, Any]] = [
    {"item_id": f"i{n}", "title": text, "popularity": n % 7}
    for n, text in enumerate(tiny_texts(60))
]


MakeBundle = Callable[..., Path]

TIMEOUT_S = 120
"""Seconds that an answer may take on a machine that is busy."""

_APPS: WeakKeyDictionary[httpx.Client, FastAPI] = WeakKeyDictionary()


@contextmanager
def running(settings: Settings, token: str = "", tuning: Tuning = TUNING) -> Iterator[httpx.Client]:
    """Serve in a thread until the block ends;
    yields a client, which sends the token if there is one.
    """
    listener = listen(settings)
    app = create_app(settings, tuning=tuning)
    server = uvicorn.Server(server_config(settings, app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers) as client:
        _APPS[client] = app
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            if server.started:
                wait_until(lambda: client.get("/readyz").status_code == 200)
            yield client
        finally:
            server.should_exit = True
            thread.join(20)
            listener.close()


def components_of(client: httpx.Client) -> Components:
    """Return what the service behind a client is made of."""
    components: Components = _APPS[client].state.components
    return components


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.01)


def wait_for_job(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Wait until a job ended; returns it."""
    seen: dict[str, Any] = {}

    def ended() -> bool:
        seen.update(client.get(f"/jobs/{job['id']}").json())
        return seen["status"] in ("succeeded", "failed", "cancelled")

    wait_until(ended, JOB_S)
    return seen


def upload(client: httpx.Client, path: Path, **fields: str) -> httpx.Response:
    """Send a bundle."""
    with path.open("rb") as file:
        return client.post("/adapters", files={"file": file}, data=fields)


def activate(client: httpx.Client, path: Path) -> dict[str, Any]:
    """Send a bundle, activate it, wait; returns the ended job."""
    answer = upload(client, path, activate="true")
    assert answer.status_code == 202, answer.text
    job = wait_for_job(client, answer.json()["job"])
    assert job["status"] == "succeeded", job
    return job


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    return tiny_backbone(tmp_path / "data" / "backbones" / "tiny")


@pytest.fixture
def settings(tmp_path: Path, backbone: Backbone) -> Settings:
    assert backbone.fingerprint
    return Settings(data=tmp_path / "data", port=0)


@pytest.fixture
def tuning() -> Tuning:
    """Intervals and limits of `client`; a test that wants others parametrizes `tuning`."""
    return TUNING


@pytest.fixture
def client(settings: Settings, tuning: Tuning) -> Iterator[httpx.Client]:
    with running(settings, tuning=tuning) as client:
        yield client


@pytest.fixture
def movies(client: httpx.Client) -> httpx.Client:
    """A service with a domain `movies` of sixty items."""
    assert client.put("/domains/movies", json={"title": "Films"}).status_code == 201
    assert client.post("/domains/movies/items", json=ITEMS).json()["accepted"] == 60
    return client


@pytest.fixture
def bundle(tmp_path: Path, backbone: Backbone) -> Callable[..., Path]:
    """Make bundles: `bundle(seed, domain)`."""

    def make(seed: int = 1, domain: str = "movies") -> Path:
        path = tmp_path / f"{domain}-{seed}.safetensors"
        return tiny_bundle(path, backbone, domain, tiny_adapter(backbone, seed))

    return make


@pytest.fixture(scope="session")
def one_redis() -> Iterator[RedisServer]:
    """A server for all tests that leave it as they found it."""
    with redis_running() as server:
        yield server


@pytest.fixture
def empty_redis(one_redis: RedisServer) -> RedisServer:
    """A server without anything in it."""
    one_redis.ask("FLUSHALL")
    return one_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may kill, stop and starve."""
    with redis_running() as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], State]:
    """Open the same state again, as a restart does."""
    if request.param == "sqlite":
        return lambda: SqliteState(tmp_path)
    server: RedisServer = request.getfixturevalue("empty_redis")
    return lambda: RedisState(server.url, tmp_path)


@pytest.fixture
def state(reopen: Callable[[], State]) -> Iterator[State]:
    opened = reopen()
    yield opened
    opened.close()
