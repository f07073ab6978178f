"""Writes to state and store until it is killed, and says in one line each what it is about to do
and what was done.

`kill_writer.py BACKEND FOLDER URL SEED`. Without torch: it starts in a moment.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters_store.bundle import Manifest, write_bundle
from adapters_store.store import Store
from service.catalog.bases import Bases, Catalog
from service.embedding.segments import KeyBytes, Segments, as_keys
from service.errors import StateUnavailable
from service.state import DomainRecord, State, StoredItem, Visibility
from service.state.redis import RedisState
from service.state.snapshots import Snapshots
from service.state.sqlite import SqliteState
from transrec.content import KEY_BYTES

DOMAIN = "movies"
DIGEST = "d" * 64
WIDTH = 4
VISIBILITIES: tuple[Visibility, ...] = ("changed", "all", "later")
Done = dict[str, Any]


def keys_of(names: Sequence[str]) -> KeyBytes:
    """Return keys [n, 16] of names."""
    return as_keys(
        [hashlib.blake2b(name.encode(), digest_size=KEY_BYTES).digest() for name in names]
    )


def vectors_of(names: Sequence[str]) -> NDArray[np.float32]:
    """Return vectors [n, d] that tell of which name each is."""
    seeds = [
        int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")
        for name in names
    ]
    return np.array(
        [np.random.default_rng(seed).random(WIDTH) for seed in seeds], np.float32
    ).reshape(-1, WIDTH)


def open_state(backend: str, folder: Path, url: str) -> State:
    return (
        SqliteState(folder)
        if backend == "sqlite"
        else RedisState(url, folder, Store(folder / "adapters").domains())
    )


class Writer:
    """Chooses what to do, and does it."""

    def __init__(self, state: State, folder: Path, seed: int) -> None:
        self.state = state
        self.seed = seed
        self.rng = random.Random(seed)
        self.store = Store(folder / "adapters")
        self.source = folder / "in.safetensors"
        self.bases = Bases(folder / "bases")
        self.snapshots = Snapshots(folder / "snapshots")
        self.segments = Segments(folder / "segments", WIDTH)
        self.turn = 0
        self.job: str | None = None

    def go_on(self) -> None:
        """Do things until killed. What state could not answer is done again, as a client would."""
        items = [self.upsert, self.upsert, self.upsert, self.remove]
        derived = [self.base, self.segment, self.segment, self.snapshot]
        kinds = [*items, *derived, self.job_step, self.domain, self.version]
        while True:
            self.turn += 1
            do = self.rng.choice(kinds)()
            while True:
                try:
                    say("done", do())
                    break
                except StateUnavailable:
                    time.sleep(0.02)

    def upsert(self) -> Callable[[], Done]:
        mark = f"{self.seed}-{self.turn}"
        ids = [f"i{n}" for n in self.rng.sample(range(60), 4)]
        visibility = self.rng.choice(VISIBILITIES)
        available = self.rng.random() < 0.8
        say("begin", {"what": "upsert", "ids": ids, "text": mark})

        def do() -> Done:
            items = [StoredItem(name, mark, 0, {"mark": mark}, available=available) for name in ids]
            stored = self.state.upsert_items(DOMAIN, items, visibility)
            return {"generation": stored.generation}

        return do

    def remove(self) -> Callable[[], Done]:
        ids = [f"i{n}" for n in self.rng.sample(range(60), 3)]
        say("begin", {"what": "remove", "ids": ids})
        return lambda: {"generation": self.state.delete_items(DOMAIN, ids).generation}

    def job_step(self) -> Callable[[], Done]:
        stage = f"{self.seed}-{self.turn}"
        job = self.job
        say("begin", {"what": "job", "job": job, "stage": stage})

        def do() -> Done:
            if job is None:
                self.job = self.state.create_job("import", DOMAIN, {"stage": stage}).id
                return {"job": self.job}
            self.state.update_job(job, stage=stage, status="running")
            return {}

        return do

    def domain(self) -> Callable[[], Done]:
        name = f"d{self.rng.randrange(3)}"
        title = f"{self.seed}-{self.turn}"
        delete = self.rng.random() < 0.4
        say("begin", {"what": "domain", "name": name, "title": None if delete else title})

        def do() -> Done:
            if not delete:
                self.state.put_domain(DomainRecord(name, "f", title))
                self.state.upsert_items(name, [StoredItem("a", title)])
            elif any(record.name == name for record in self.state.domains()):
                self.state.delete_domain(name)
            return {}

        return do

    def base(self) -> Callable[[], Done]:
        say("begin", {"what": "base"})

        def do() -> Done:
            record = self.state.get_domain(DOMAIN)
            generation = self.state.generation(DOMAIN)
            found = self.state.list_items(DOMAIN, -1, 1000)
            rows = np.array([row for row, _ in found], np.int64)
            ids = [item.item_id for _, item in found]
            catalog = Catalog(
                generation, rows, ids, np.zeros(len(ids)), np.ones(len(ids), np.bool_)
            )
            with self.bases.writing(record, catalog, self.turn, WIDTH) as base:
                if ids:
                    base.vectors(DIGEST, "float32")[base.places] = vectors_of(
                        [f"{generation} {name}" for name in ids]
                    )
            self.bases.keep(record)
            return {"generation": generation}

        return do

    def segment(self) -> Callable[[], Done]:
        names = [f"{self.seed}-{self.turn}-{number}" for number in range(self.rng.randrange(1, 50))]
        say("begin", {"what": "segment", "names": names})

        def do() -> Done:
            self.segments.add(keys_of(names), vectors_of(names))
            return {}

        return do

    def snapshot(self) -> Callable[[], Done]:
        say("begin", {"what": "snapshot"})

        def do() -> Done:
            generation = self.state.generation(DOMAIN)
            self.snapshots.take(self.state, self.state.get_domain(DOMAIN), generation)
            return {"generation": generation}

        return do

    def version(self) -> Callable[[], Done]:
        value = [self.seed, self.turn]
        say("begin", {"what": "version", "value": value})

        def do() -> Done:
            manifest = Manifest(
                domain=DOMAIN, kind="houlsby", spec={}, backbone="f", dtype="float32"
            )
            write_bundle(self.source, manifest, {"a": np.array(value * 500, np.float32)})
            added = self.store.add(DOMAIN, self.source, lambda _: [])
            self.store.record_activation(DOMAIN, added.version, "activate")
            return {"version": added.version}

        return do


def say(what: str, more: Done) -> None:
    sys.stdout.write(json.dumps([what, more]) + "\n")
    sys.stdout.flush()


def main(backend: str, folder: str, url: str, seed: str) -> None:
    state = open_state(backend, Path(folder), url)
    state.put_domain(DomainRecord(DOMAIN, "f", "Films"))
    say("ready", {})
    Writer(state, Path(folder), int(seed)).go_on()


if __name__ == "__main__":
    main(*sys.argv[1:])
