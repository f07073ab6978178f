"""A client that does things at random and writes down what was acknowledged."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.service.conftest import upload
from tests.tiny import tiny_adapter, tiny_bundle
from transrec.backbone import Backbone

IDS = 2500


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
            self._known.live = version_number(answer.json()["version"])
        self._known.cut_live = set()

    def _wait(self, job: dict[str, Any]) -> None:
        while job["status"] not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.02)
            job = self._ask(partial(self._http.get, f"/jobs/{job['id']}")).json()
        assert job["status"] == "succeeded", job


def version_number(version: int | str) -> int | None:
    """Return the number of a version that an answer names, None for `none`."""
    return None if version == "none" else int(version)
