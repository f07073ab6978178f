"""`kill -9` of workers, of the building process and of the whole service, at random moments while
it is written to.

Three rounds; `SWAPREC_KILL_SERVICE_ROUNDS=30` makes it more, `SWAPREC_KILL_SEED` makes them others.
With `-s` it prints what it saw. After each round the catalog must be what was acknowledged, and
every worker must answer as the version that it names does offline.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.conftest import upload, wait_until
from tests.service.process import listens, start
from tests.service.test_crashes import free_port
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.devices import resolve_dtype
from transrec.embed import embed
from transrec.model import encode_users

ROUNDS = int(os.environ.get("SWAPREC_KILL_SERVICE_ROUNDS", "3"))
SEED = int(os.environ.get("SWAPREC_KILL_SEED", "0"))
IDS = 2500
K = 200
TIMEOUT_S = 8.0
WORDS = ("storm", "over", "oslo", "film", "night", "war", "love", "north", "city", "sea")

Titles = dict[str, str | None]
"""Titles by id; None is deleted."""


@dataclass
class KnownAnswers:
    """What was acknowledged, and what the request that a kill cut off may have done."""

    titles: Titles = field(default_factory=dict)
    live: int | None = None
    seeds: dict[int, int] = field(default_factory=dict)
    cut_titles: Titles = field(default_factory=dict)
    cut_live: set[int | None] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)


class Killed(Exception):
    """The service went away in the middle of a request."""


class KilledService:
    """Two workers, their parent and, while something is built, a third child."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return start(self.data, self.port, SWAPREC_WORKERS="2", SWAPREC_BUILDER_ITEMS="300")

    def family(self, pid: int | None = None) -> dict[int, str]:
        """Return the processes, each with what it is."""
        found = {self.process.pid: "parent"} if pid is None else {}
        pid = self.process.pid if pid is None else pid
        for child in _children(pid):
            with suppress(OSError):
                line = Path(f"/proc/{child}/cmdline").read_bytes()
                if b"service.embedding.worker_main" in line:
                    found[child] = "builder"
                elif b"spawn_main" in line:
                    found[child] = "worker"
                found |= self.family(child)
        return found

    def kill(self, rng: random.Random) -> str:
        """Kill one process, or all of them; returns what was killed."""
        what = rng.choice(["worker", "builder", "all", "builder"])
        until = time.monotonic() + TIMEOUT_S
        there = self.family()
        while what == "builder" and not self._builds(there):  # it is to be killed while it works
            if time.monotonic() > until:
                what = "worker"
            time.sleep(0.005)
            there = self.family()
        victims = (
            list(there)
            if what == "all"
            else [rng.choice([pid for pid, kind in there.items() if kind == what])]
        )
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if what == "all":
            self.process.wait()
            wait_until(lambda: not listens(self.url))
        return what

    def _builds(self, there: dict[int, str]) -> bool:
        """Whether the building process works, by its use of the processor in a moment."""
        builders = [pid for pid, kind in there.items() if kind == "builder"]
        with suppress(OSError, IndexError):
            before = _nanoseconds(builders[0])
            time.sleep(0.005)
            return _nanoseconds(builders[0]) > before + 1_000_000
        return False

    @contextmanager
    def healed(self) -> Iterator[list[httpx.Client]]:
        """Start what nobody else starts, and wait for both workers; yields a connection to each."""
        if self.process.poll() is not None:
            self.process = self._start()
        found: dict[str, httpx.Client] = {}

        def both() -> bool:
            client = httpx.Client(base_url=self.url, timeout=60)
            with suppress(httpx.TransportError):
                if client.get("/readyz").status_code == 200:
                    name = client.get("/info").json()["process"]
                    if found.setdefault(name, client) is client:
                        return len(found) == 2
            client.close()
            return False

        try:
            wait_until(both, 60)
            yield list(found.values())
        finally:
            for client in found.values():
                client.close()

    def stop(self) -> None:
        """End it, whatever state it is in."""
        for pid in self.family() if self.process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _children(pid: int) -> list[int]:
    """Return what any thread of a process has started."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it ended meanwhile
            found += [int(child) for child in thread.read_text().split()]
    return found


def _nanoseconds(pid: int) -> int:
    """Return how long any thread of a process has had a processor."""
    return sum(
        int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


class KillClient:
    """Does things at random, one after the other, and writes down what was acknowledged."""

    def __init__(
        self, url: str, folder: Path, backbone: Backbone, known: KnownAnswers, rng: random.Random
    ) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)
        self._folder = folder
        self._backbone = backbone
        self._known = known
        self._rng = rng

    def go_on(self, over: threading.Event) -> None:
        """Do things until asked to stop, or until the service is gone."""
        things = [
            self._put,
            self._delete,
            self._bulk,
            self._import,
            self._upload,
            self._flip,
            self._rollback,
        ]
        with suppress(Killed):
            while not over.is_set():
                thing = self._rng.choice(things)
                thing()
                self._known.done[thing.__name__] += 1

    def close(self) -> None:
        self._http.close()

    def _ask(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            return call()
        except httpx.TransportError:
            raise Killed from None

    def _titled(self, count: int) -> dict[str, str]:
        mark = self._rng.randrange(10**6)
        names = self._rng.sample(range(IDS), count)
        return {f"i{name}": " ".join([*self._rng.choices(WORDS, k=4), str(mark)]) for name in names}

    def _change(
        self, titles: Titles, call: Callable[[], httpx.Response], *codes: int
    ) -> httpx.Response:
        """Do what changes items; acknowledged when the answer is here."""
        self._known.cut_titles = titles
        answer = self._ask(call)
        assert answer.status_code in codes, answer.text
        self._known.titles |= titles
        self._known.cut_titles = {}
        return answer

    def _put(self) -> None:
        [(name, title)] = self._titled(1).items()
        place = f"/domains/movies/items/{name}"
        self._change({name: title}, lambda: self._http.put(place, json={"title": title}), 200, 201)

    def _delete(self) -> None:
        there = [name for name, title in self._known.titles.items() if title is not None]
        if there:
            name = self._rng.choice(there)
            self._change(
                {name: None}, lambda: self._http.delete(f"/domains/movies/items/{name}"), 204
            )

    def _bulk(self) -> None:
        titles = self._titled(200)
        rows = [{"item_id": name, "title": title} for name, title in titles.items()]
        self._change({**titles}, lambda: self._http.post("/domains/movies/items", json=rows), 200)

    def _import(self) -> None:
        titles = self._titled(900)
        lines = "".join(
            json.dumps({"item_id": name, "title": title}) + "\n" for name, title in titles.items()
        )
        kind = {"Content-Type": "application/x-ndjson"}
        place = "/domains/movies/items?wait=false"
        job = self._change(
            {**titles}, lambda: self._http.post(place, content=lines, headers=kind), 202
        )
        self._wait(job.json())

    def _upload(self) -> None:
        seed = self._rng.randrange(10**6)
        path = self._folder / f"{seed}.safetensors"
        tiny_bundle(path, self._backbone, "movies", tiny_adapter(self._backbone, seed))
        answer = self._ask(lambda: upload(self._http, path))
        assert answer.status_code == 201, answer.text
        version = answer.json()["version"]
        self._known.seeds[version] = seed
        self._activate(version)

    def _flip(self) -> None:
        if self._known.seeds:
            self._activate(self._rng.choice(list(self._known.seeds)))

    def _activate(self, version: int) -> None:
        self._known.cut_live = {version}
        answer = self._ask(lambda: self._http.post(f"/adapters/movies/versions/{version}/activate"))
        assert answer.status_code in (200, 202), answer.text
        self._wait(answer.json())
        self._known.live = version
        self._known.cut_live = set()

    def _rollback(self) -> None:
        self._known.cut_live = {None, *self._known.seeds}
        answer = self._ask(lambda: self._http.post("/domains/movies/rollback"))
        assert answer.status_code in (200, 409), answer.text
        if answer.status_code == 200:
            self._known.live = _number(answer.json()["version"])
        self._known.cut_live = set()

    def _wait(self, job: dict[str, Any]) -> None:
        while job["status"] not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.02)
            job = self._ask(partial(self._http.get, f"/jobs/{job['id']}")).json()
        assert job["status"] == "succeeded", job


def compare(
    client: httpx.Client, known: KnownAnswers, backbone: Backbone, histories: random.Random
) -> None:
    """Hold what a worker answers against what must be there;
    what was cut off is known from here on.
    """
    wait_until(
        lambda: all(job["status"] not in ("queued", "running") for job in _jobs(client)), 120
    )
    there = _titles(client)
    expected = {name: title for name, title in known.titles.items() if title is not None}
    done = {
        name: title
        for name, title in (known.titles | known.cut_titles).items()
        if title is not None
    }
    assert there in (expected, done), _difference(there, expected)
    live = _number(client.get("/domains/movies").json()["live_version"])
    assert live in {known.live, *known.cut_live}
    wait_until(lambda: client.get("/domains/movies").json()["searchable_items"] == len(there), 60)
    if len(there) >= 5:
        offline = OfflineAnswers(backbone, there, None if live is None else known.seeds[live])
        # With what it has not applied yet.
        wait_until(lambda: offline.agrees(client, live, histories), 10)
    known.titles = {**known.titles, **{name: there.get(name) for name in known.cut_titles}}
    known.live = live
    known.cut_titles = {}
    known.cut_live = set()


class OfflineAnswers:
    """What a version answers of a catalog, computed here."""

    def __init__(self, backbone: Backbone, titles: dict[str, str], seed: int | None) -> None:
        adapter: Adapter | None = None if seed is None else tiny_adapter(backbone, seed)
        self._encoder = backbone.model.user_encoder
        self._names = list(titles)
        self._places = {name: place for place, name in enumerate(self._names)}
        dtype = resolve_dtype("auto", "cpu") if adapter is None else "float32"
        self._tolerance = 1e-4 if dtype == "float32" else 1e-2
        self._vectors = embed(
            backbone, [Content(title) for title in titles.values()], adapter, dtype=dtype
        )
        self._side = None if adapter is None else adapter.user

    def agrees(self, client: httpx.Client, live: int | None, rng: random.Random) -> bool:
        """Whether three histories are answered by the version with what it answers here."""
        return all(
            self._agrees(client, live, rng.sample(range(len(self._names)), 5)) for _ in range(3)
        )

    def _agrees(self, client: httpx.Client, live: int | None, rows: list[int]) -> bool:
        [scores] = (
            encode_users(self._encoder, [np.array(rows)], self._vectors, self._side)
            @ self._vectors.T
        )
        scores[rows] = -np.inf
        asked = {"history": [self._names[row] for row in rows], "k": K}
        answer = client.post("/recommend?domain=movies", json=asked).json()
        found = [item["item_id"] for item in answer["items"]]
        if _number(answer["version"]) != live or len(found) != min(K, len(self._names) - 5):
            return False
        if not set(found) <= self._places.keys():
            return False
        best = np.sort(scores)[::-1][: len(found)]
        given = np.array([scores[self._places[name]] for name in found])
        return np.allclose(given, best, atol=self._tolerance * np.abs(best).max())


def _titles(client: httpx.Client) -> dict[str, str]:
    found: dict[str, str] = {}
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = client.get("/domains/movies/items", params={"limit": "1000", **more}).json()
        found |= {item["item_id"]: item["text"] for item in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def _jobs(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/jobs").json()["items"]
    return found


def _difference(there: dict[str, str], expected: dict[str, str]) -> str:
    lost = [name for name in expected if name not in there]
    extra = [name for name in there if name not in expected]
    other = [name for name in there if name in expected and there[name] != expected[name]]
    return (
        f"lost {lost[:5]} ({len(lost)}), not asked for {extra[:5]} ({len(extra)}), other"
        f" {other[:5]} ({len(other)})"
    )


def _number(version: int | str) -> int | None:
    return None if version == "none" else int(version)


def killed(service: KilledService, client: KillClient, rng: random.Random) -> str:
    """Let a client work, kill something meanwhile; returns what."""
    over = threading.Event()
    failures = list[BaseException]()

    def work() -> None:
        try:
            client.go_on(over)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    working = threading.Thread(target=work)
    working.start()
    time.sleep(rng.uniform(0.5, 4.0))
    what = service.kill(rng)
    over.set()
    working.join()
    client.close()
    if failures:
        raise failures[0]
    return what


@pytest.mark.slow
def test_whatever_is_killed_what_was_acknowledged_is_there_and_answers_are_right(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    known = KnownAnswers()
    rng = random.Random(SEED)
    backbone = tiny_backbone(data / "backbones" / "tiny")
    service = KilledService(data)
    kills = Counter[str]()
    try:
        with httpx.Client(base_url=service.url, timeout=60) as http:
            assert http.put("/domains/movies", json={}).status_code == 201
        for number in range(ROUNDS):
            client = KillClient(
                service.url, tmp_path, backbone, known, random.Random(1000 * SEED + number)
            )
            kills[killed(service, client, rng)] += 1
            with service.healed() as workers:
                for worker in workers:
                    compare(worker, known, backbone, rng)
        print(f"\nkilled {dict(kills)}; done {dict(known.done)}; {len(known.seeds)} versions")  # noqa: T201 - asked for with -s
        left = [path for path in data.rglob("*.part") if "imports" not in path.parts]
        assert len(left) <= 1, f"{left}: of a kill at most the last one's is left"
    finally:
        service.stop()
