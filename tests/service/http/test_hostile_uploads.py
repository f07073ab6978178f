"""Clients with a key are strangers:
what they upload is refused, and leaves nothing, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from service.process import freeze_objects
from service.settings import Settings
from tests.service.conftest import components_of, running
from tests.service.hostile import FILES, KIND, Honest, form
from tests.service.hostile_forms import ACCEPTED, FORMS
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle

MAX_ANSWER = 64 * 1024
MAX_STALL_S = 0.5
"""CPU seconds of the process between two turns of the event loop;
on a quiet machine half of it is the bar.
"""
MAX_CPU_S = 2.5


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("hostile")
    tiny_backbone(folder / "data" / "backbones" / "tiny")
    with running(Settings(data=folder / "data", port=0)) as client:
        assert client.put("/domains/movies", json={}).status_code == 201
        # As the server does: collecting the objects of torch alone takes a third of a second.
        freeze_objects()
        yield client
        gc.unfreeze()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    backbone = tiny_backbone(tmp_path_factory.mktemp("honest") / "tiny")
    path = tmp_path_factory.mktemp("bundle") / "b.safetensors"
    return Honest.of(tiny_bundle(path, backbone, "movies", tiny_adapter(backbone)).read_bytes())


@contextmanager
def heartbeat(client: httpx.Client) -> Iterator[list[float]]:
    """Collect the CPU seconds that pass between turns of the service's event loop."""
    loop_reader = components_of(client).gate_runner.loop_reader
    assert loop_reader is not None
    turns: list[float] = []

    async def beat() -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(0.005)
            now = time.process_time()
            turns.append(now - before)
            before = now

    task: Future[None] = asyncio.run_coroutine_threadsafe(beat(), loop_reader.loop)
    try:
        yield turns
    finally:
        task.cancel()


def refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} in an answer")


def strict(answer: httpx.Response) -> Any:
    return json.loads(answer.content, parse_constant=refuse_constant)


def left(client: httpx.Client) -> dict[str, Any]:
    """Return everything that an upload could leave: files, domains, versions, jobs."""
    data = components_of(client).settings.data
    listed = {
        path: client.get(path)
        for path in ("/domains", "/adapters", "/jobs", "/adapters?domain=movies")
    }
    assert {path: answer.status_code for path, answer in listed.items()} == dict.fromkeys(
        listed, 200
    )
    files = {
        str(path.relative_to(data))
        for path in (data / "adapters").rglob("*")
        if path.name != ".lock"
    }
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
def test_a_hostile_file_is_refused_and_leaves_nothing(
    service: httpx.Client, honest: Honest, name: str
) -> None:
    build, expected = FILES[name]
    refuse(service, form(build(honest)), KIND, expected)


@pytest.mark.parametrize("name", FORMS)
def test_a_hostile_form_is_refused_and_leaves_nothing(
    service: httpx.Client, honest: Honest, name: str
) -> None:
    build, kind, expected = FORMS[name]
    refuse(service, build(honest), kind, expected)


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_honest_bundle_is_accepted_however_it_is_sent(
    service: httpx.Client, honest: Honest, name: str
) -> None:
    answer = service.post(
        "/adapters", content=ACCEPTED[name](honest), headers={"Content-Type": KIND}
    )
    assert answer.status_code in (200, 201), answer.text
    version = strict(answer)["version"]
    listed = strict(service.get("/adapters?domain=movies"))["items"]
    assert [card for card in listed if card["version"] == version and "damaged" not in card]
    assert service.get(f"/adapters/movies/versions/{version}/file").content


@pytest.mark.parametrize(
    "junk",
    [
        "9" * 300,
        "9" * 18 + "0",
        "-1",
        "0",
        "1.5",
        "1e3",
        "%00",
        "%ED%A0%80",
        "²",
        "x" * 3000,
        "true",
    ],
)
@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("GET", ""),
        ("GET", "/file"),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/activate"),
        ("POST", "/promote"),
    ],
)
def test_a_version_that_is_none_is_refused_on_every_route(
    service: httpx.Client, method: str, tail: str, junk: str
) -> None:
    answer = service.request(
        method, f"/adapters/movies/versions/{junk}{tail}", json={"pinned": True}
    )
    assert answer.status_code in (400, 422), answer.text[:500]
    assert len(answer.content) < MAX_ANSWER
    strict(answer)


@pytest.mark.parametrize("name", ["%ED%A0%80", "a" * 3000, "..%2f..", "%00", "MOVIES", "-"])
def test_a_domain_that_is_none_has_no_versions(service: httpx.Client, name: str) -> None:
    for path in (
        f"/adapters/{name}/versions/1",
        f"/adapters/{name}/versions/1/file",
        f"/adapters?domain={name}",
    ):
        answer = service.get(path)
        assert answer.status_code in (400, 404, 422), (path, answer.text[:300])
        assert len(answer.content) < MAX_ANSWER


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 100_000,
        b'{"pinned": "\\ud800"}',
        b'{"gate": {"min_hr10": NaN}}',
        b'{"canary_percent": 1e400}',
        b'{"canary_percent": ' + b"9" * 5000 + b"}",
        json.dumps({f"field {n}": n for n in range(20_000)}).encode(),
        json.dumps({"x" * 100_000: 1}).encode(),
        json.dumps({"gate": {f"field {n}": n for n in range(20_000)}}).encode(),
    ],
    ids=range(9),
)
def test_a_body_that_is_none_is_refused_with_an_answer_of_bounded_size(
    service: httpx.Client, honest: Honest, body: bytes
) -> None:
    assert service.post(
        "/adapters", content=form(honest.content()), headers={"Content-Type": KIND}
    ).is_success
    for method, tail in (("PATCH", ""), ("POST", "/activate")):
        answer = service.request(method, f"/adapters/movies/versions/1{tail}", content=body)
        assert answer.status_code in (400, 422), answer.text[:300]
        assert len(answer.content) < MAX_ANSWER
        assert len(strict(answer).get("errors", [])) <= 52


@pytest.mark.parametrize("length", [b"5", b"999999", b"-1", b"x", b"9" * 400])
def test_a_length_that_lies_leaves_nothing(
    service: httpx.Client, honest: Honest, length: bytes
) -> None:
    before = left(service)
    head = (
        b"POST /adapters HTTP/1.1\r\nHost: x\r\nContent-Type: "
        + KIND.encode()
        + b"\r\nContent-Length: "
    )
    with socket.create_connection(
        ("127.0.0.1", service.base_url.port or 0), timeout=5
    ) as connection:
        connection.sendall(head + length + b"\r\n\r\n" + form(honest.content()))
        connection.shutdown(socket.SHUT_WR)
        seen = connection.recv(4096)
    assert b" 201 " not in seen
    assert b" 500 " not in seen
    assert left(service) == before


def test_ranges_of_a_bundle_that_are_none_are_refused_or_ignored(
    service: httpx.Client, honest: Honest
) -> None:
    sent = service.post(
        "/adapters", content=form(honest.content()), headers={"Content-Type": KIND}
    ).json()
    path = f"/adapters/movies/versions/{sent['version']}/file"
    wrong = [
        "bytes=9999999-",
        "bytes=5-1",
        "bytes=" + "0-1," * 2000 + "0-1",
        "bytes=" + "9" * 5000 + "-",
        "x",
        "bytes=-",
    ]
    for given in wrong:
        answer = service.get(path, headers={"Range": given})
        assert answer.status_code in (200, 206, 400, 416), (given[:40], answer.text[:200])
        assert len(answer.content) <= max(len(honest.content()), MAX_ANSWER)
    assert service.get(path, headers={"Range": "bytes=0-7"}).content == honest.content()[:8]
