"""Clients with a key are strangers: what they upload is refused, and leaves nothing, and nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import parts_of, running
from tests.service.hostile import FILES, FORMS, KIND, Honest, form
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle

MAX_ANSWER = 64 * 1024
MAX_STALL_S = 0.5
"""CPU seconds of the process between two turns of the event loop; on a quiet machine half of it is the bar."""
MAX_CPU_S = 2.5


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("hostile")
    tiny_backbone(folder / "data" / "backbones" / "tiny")
    with running(Settings(data=folder / "data", port=0)) as client:
        assert client.put("/domains/movies", json={}).status_code == 201
        yield client


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    backbone = tiny_backbone(tmp_path_factory.mktemp("honest") / "tiny")
    path = tmp_path_factory.mktemp("bundle") / "b.safetensors"
    return Honest.of(tiny_bundle(path, backbone, "movies", tiny_adapter(backbone)).read_bytes())


@contextmanager
def heartbeat(client: httpx.Client) -> Iterator[list[float]]:
    """Collect the CPU seconds that pass between turns of the service's event loop."""
    asking = parts_of(client).judge.asking
    assert asking is not None
    turns: list[float] = []

    async def beat() -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(0.005)
            now = time.process_time()
            turns.append(now - before)
            before = now

    task: Future[None] = asyncio.run_coroutine_threadsafe(beat(), asking.loop)
    try:
        yield turns
    finally:
        task.cancel()


def refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} in an answer")


def strict(answer: httpx.Response) -> Any:
    assert "surrogate" not in answer.text or answer.text.encode()
    return json.loads(answer.content, parse_constant=refuse_constant)


def left(client: httpx.Client) -> dict[str, Any]:
    """Return everything that an upload could leave: files, domains, versions, jobs."""
    data = parts_of(client).settings.data
    listed = {path: client.get(path) for path in ("/domains", "/adapters", "/jobs", "/adapters?domain=movies")}
    assert {path: answer.status_code for path, answer in listed.items()} == dict.fromkeys(listed, 200)
    files = {str(path.relative_to(data)) for path in (data / "adapters").rglob("*") if path.name != ".lock"}
    return {path: strict(answer) for path, answer in listed.items()} | {"files": files}


def refuse(client: httpx.Client, body: bytes, kind: str, expected: tuple[int, str]) -> None:
    before = left(client)
    headers = {"Content-Type": kind} if kind else {}
    with heartbeat(client) as turns:
        started = time.process_time()
        answer = client.post("/adapters", content=body, headers=headers)
        seconds = time.process_time() - started
        time.sleep(0.02)
    assert (answer.status_code, strict(answer).get("code")) == expected, answer.text[:2000]
    assert len(answer.content) < MAX_ANSWER
    assert len(strict(answer).get("errors", [])) <= 51
    assert seconds < MAX_CPU_S
    assert max(turns, default=0.0) < MAX_STALL_S
    assert left(client) == before


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_and_leaves_nothing(service: httpx.Client, honest: Honest, name: str) -> None:
    build, expected = FILES[name]
    refuse(service, form(build(honest)), KIND, expected)


@pytest.mark.parametrize("name", FORMS)
def test_a_hostile_form_is_refused_and_leaves_nothing(service: httpx.Client, honest: Honest, name: str) -> None:
    build, kind, expected = FORMS[name]
    refuse(service, build(honest), kind, expected)
