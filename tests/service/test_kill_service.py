"""`kill -9` of workers, of the building process and of the whole service, at random moments while
it is written to.

Three rounds; `SWAPREC_KILL_SERVICE_ROUNDS=30` makes it more, `SWAPREC_KILL_SEED` makes them others.
With `-s` it prints what it saw. After each round the catalog must be what was acknowledged, and
every worker must answer as the version that it names does offline.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.conftest import wait_until
from tests.service.kill_client import KillClient, KnownAnswers, version_number
from tests.service.killed_service import KilledService
from tests.tiny import tiny_adapter, tiny_backbone
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.devices import resolve_dtype
from transrec.embed import embed
from transrec.model import encode_users

ROUNDS = int(os.environ.get("SWAPREC_KILL_SERVICE_ROUNDS", "3"))
SEED = int(os.environ.get("SWAPREC_KILL_SEED", "0"))
K = 200


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
    live = version_number(client.get("/domains/movies").json()["live_version"])
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
        if version_number(answer["version"]) != live or len(found) != min(K, len(self._names) - 5):
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
