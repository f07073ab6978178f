"""Several real worker processes on one port and one SQLite folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.ingest.imports import BULK_IMPORT_ROWS
from tests.service.conftest import activate, upload, wait_for_job, wait_until
from tests.service.process import listens, start
from tests.service.test_crashes import free_port
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle, tiny_texts

ITEMS = [
    {"item_id": f"i{n}", "title": text, "popularity": n % 7}
    for n, text in enumerate(tiny_texts(300))
]
BundleOf = Callable[[int], Path]


class Workers:
    """A service of two workers, and a way to ask each of them."""

    def __init__(self, data: Path, port: int) -> None:
        self.process = start(data, port, SWAPREC_WORKERS="2")
        self.url = f"http://127.0.0.1:{port}"
        self._clients: list[httpx.Client] = []

    def pids(self) -> list[int]:
        """Return the workers' process ids."""
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [
            int(child)
            for child in children
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]

    def clients(self) -> dict[str, httpx.Client]:
        """Connect until both workers have answered;
        returns a connection to each, by the worker's name.
        """
        found: dict[str, httpx.Client] = {}

        def both() -> bool:
            client = httpx.Client(base_url=self.url, timeout=30)
            self._clients.append(client)
            try:
                name = client.get("/info").json()["process"]
                ready = client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False
            if ready:
                found.setdefault(name, client)
            return len(found) == 2

        wait_until(both, 60)
        return found

    def close(self) -> None:
        """Kill what still runs, and its workers with it."""
        for client in self._clients:
            client.close()
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not listens(self.url))

    def stop(self) -> int:
        """End the service as an operator does."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def bundle(tmp_path: Path) -> BundleOf:
    backbone = tiny_backbone(tmp_path / "data" / "backbones" / "tiny")
    return lambda seed: tiny_bundle(
        tmp_path / f"{seed}.safetensors", backbone, "movies", tiny_adapter(backbone, seed)
    )


@contextmanager
def two_workers(data: Path) -> Iterator[Workers]:
    """Serve with two workers until the block ends."""
    workers = Workers(data, free_port())
    try:
        yield workers
    finally:
        workers.close()


def ask(client: httpx.Client, **wishes: Any) -> dict[str, Any]:
    """Recommend."""
    answer = client.post(
        "/recommend?domain=movies", json={"history": ["i0", "i1"], "k": 400, **wishes}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    """Return the ids of an answer."""
    return [item["item_id"] for item in answer["items"]]


@pytest.mark.slow
def test_what_one_worker_does_the_other_answers_from_within_a_second(
    tmp_path: Path, bundle: BundleOf
) -> None:
    made = [bundle(seed) for seed in (1, 2)]
    with two_workers(tmp_path / "data") as workers:
        one, other = workers.clients().values()
        assert one.put("/domains/movies", json={}).status_code == 201
        assert one.post("/domains/movies/items", json=ITEMS).json()["accepted"] == 300
        wait_until(lambda: other.get("/domains/movies").json().get("searchable_items") == 300, 5)
        activate(one, made[0])
        wait_until(lambda: ask(other)["version"] == 1, 10)
        assert ids(ask(other)) == ids(ask(one))

        one.put("/domains/movies/items/new", json={"title": "Storm over Oslo"})
        assert "new" in ids(ask(one))
        wait_until(lambda: "new" in ids(ask(other)), 10)

        other.delete("/domains/movies/items/i7")
        assert "i7" not in ids(ask(other))
        wait_until(lambda: "i7" not in ids(ask(one)), 10)

        assert upload(other, made[1]).status_code == 201
        job = other.post("/adapters/movies/versions/2/activate", json={"canary_percent": 50}).json()
        assert wait_for_job(other, job)["status"] == "succeeded"
        users = [f"u{number}" for number in range(30)]
        wait_until(lambda: one.get("/domains/movies").json()["canary_version"] == 2, 10)
        drawn = [
            [ask(client, user_id=user, k=1)["version"] for user in users] for client in (one, other)
        ]
        assert drawn[0] == drawn[1]
        assert set(drawn[0]) == {1, 2}
        one.post("/adapters/movies/versions/2/promote")
        wait_until(lambda: ask(other)["version"] == 2, 10)
        assert "i7" not in ids(ask(other))
        other.post("/domains/movies/rollback")
        wait_until(lambda: ask(one)["version"] == 1, 10)
        assert {"i7"}.isdisjoint(ids(ask(one)))
        assert one.delete("/domains/movies").status_code == 204
        wait_until(
            lambda: other.post("/recommend?domain=movies", json={"history": []}).status_code == 404,
            10,
        )


@pytest.mark.slow
def test_during_a_large_import_what_one_worker_changes_is_in_the_other_s_answers(
    tmp_path: Path, bundle: BundleOf
) -> None:
    assert bundle(1)  # which makes the backbone
    lines = "".join(
        f'{{"item_id": "much{n}", "title": "film {n}"}}\n' for n in range(BULK_IMPORT_ROWS + 40_000)
    )
    with two_workers(tmp_path / "data") as workers:
        one, other = workers.clients().values()
        one.put("/domains/movies", json={})
        one.post("/domains/movies/items", json=ITEMS)
        kind = {"Content-Type": "application/x-ndjson"}
        job = one.post("/domains/movies/items?wait=false", content=lines, headers=kind).json()
        wait_until(lambda: one.get(f"/jobs/{job['id']}").json()["done"] > len(lines) * 2 // 5, 60)
        one.put("/domains/movies/items/new", json={"title": "Storm over Oslo"})
        one.delete("/domains/movies/items/i7")
        one.patch("/domains/movies/items/i8", json={"available": False})
        wait_until(lambda: known(other, "new", "i7", "i8") == {"new", "i8"}, 10)
        assert known(one, "new", "i7", "i8") == {"new", "i8"}
        assert known(other, "much49999") == set(), "it is in the middle of it"
        assert one.get(f"/jobs/{job['id']}").json()["status"] == "running"
        wait_until(lambda: one.get(f"/jobs/{job['id']}").json()["status"] == "succeeded", 120)
        for client in (one, other):
            wait_until(lambda client=client: known(client, "much49999") != set(), 5)  # type: ignore[misc]
            assert known(client, "new", "i7", "much1") == {"new", "much1"}


def known(client: httpx.Client, *names: str) -> set[str]:
    """Return which items a worker answers from."""
    answer = client.post("/recommend?domain=movies", json={"history": list(names), "k": 1}).json()
    return {*names} - {*answer["unknown_items"]}


@pytest.mark.slow
def test_a_worker_that_is_killed_comes_back_and_converges_while_the_other_answers(
    tmp_path: Path, bundle: BundleOf
) -> None:
    made = [bundle(seed) for seed in (1, 2)]
    with two_workers(tmp_path / "data") as workers:
        one, _ = workers.clients().values()
        one.put("/domains/movies", json={})
        one.post("/domains/movies/items", json=ITEMS)
        activate(one, made[0])
        before = ids(ask(one))
        victim = workers.pids()[0]
        os.kill(victim, signal.SIGKILL)
        with httpx.Client(
            base_url=workers.url, timeout=30, transport=httpx.HTTPTransport(retries=2)
        ) as client:
            for number in range(20):
                assert client.put(
                    f"/domains/movies/items/late{number}", json={"title": f"Late {number}"}
                ).is_success
            activate(client, made[1])
            client.delete("/domains/movies/items/i3")
        wait_until(lambda: len(workers.pids()) == 2 and victim not in workers.pids(), 30)
        for client in workers.clients().values():
            wait_until(lambda client=client: ask(client)["version"] == 2, 5)  # type: ignore[misc]
            found = ids(ask(client))
            assert set(found) == set(before) - {"i3"} | {f"late{number}" for number in range(20)}
        assert workers.stop() == 0


@pytest.mark.slow
def test_an_activation_whose_worker_is_killed_is_finished_by_another(
    tmp_path: Path, bundle: BundleOf
) -> None:
    made = bundle(1)
    with two_workers(tmp_path / "data") as workers:
        clients = workers.clients()
        one = next(iter(clients.values()))
        one.put("/domains/movies", json={})
        many = [{"item_id": f"n{n}", "title": f"News {n} of the day"} for n in range(3000)]
        assert one.post("/domains/movies/items", json=many).json()["accepted"] == 3000
        answer = upload(one, made, activate="true").json()["job"]
        state = tmp_path / "data"
        wait_until(
            lambda: (
                one.get(f"/jobs/{answer['id']}").json()["stage"] in ("embed", "index", "verify")
            ),
            20,
        )
        owner = _owner(state, answer["id"])
        pid = int(owner.split("-")[-2])
        assert pid in workers.pids()
        os.kill(pid, signal.SIGKILL)
        with httpx.Client(
            base_url=workers.url, timeout=30, transport=httpx.HTTPTransport(retries=3)
        ) as client:
            wait_until(lambda: _status(client, answer["id"]) == "succeeded", 60)
            assert _owner(state, answer["id"]) != owner
        for client in workers.clients().values():
            wait_until(lambda client=client: ask(client, history=["n1"])["version"] == 1, 5)  # type: ignore[misc]


def _owner(data: Path, job_id: str) -> str:
    from service.state.sqlite import SqliteState

    state = SqliteState(data)
    try:
        return state.get_job(job_id).owner
    finally:
        state.close()


def _status(client: httpx.Client, job_id: str) -> str:
    try:
        return str(client.get(f"/jobs/{job_id}").json()["status"])
    except httpx.TransportError:  # the connection's worker is the one that was killed
        return ""
