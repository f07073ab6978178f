"""Writes to state and store until it is killed, and says in one line each what it is about to do and what was done.

`kill_writer.py BACKEND FOLDER URL SEED`. Without torch: it starts in a moment.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adapters_store.bundle import Manifest, write_bundle
from adapters_store.store import Store
from service.errors import StateUnavailable
from service.state import DomainRecord, Item, State
from service.state.redis import RedisState
from service.state.sqlite import SqliteState

DOMAIN = "movies"
Done = dict[str, Any]


def open_state(backend: str, folder: Path, url: str) -> State:
    return SqliteState(folder) if backend == "sqlite" else RedisState(url, folder, Store(folder / "adapters").domains())


class Writer:
    """Chooses what to do, and does it."""

    def __init__(self, state: State, folder: Path, seed: int) -> None:
        self.state, self.seed, self.rng = state, seed, random.Random(seed)
        self.store, self.source = Store(folder / "adapters"), folder / "in.safetensors"
        self.turn = 0
        self.job: str | None = None

    def go_on(self) -> None:
        """Do things until killed. What state could not answer is done again, as a client would."""
        items = [self.upsert, self.upsert, self.upsert, self.remove]
        kinds = [*items, self.job_step, self.generation, self.domain, self.version]
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
        say("begin", {"what": "upsert", "ids": ids, "text": mark})

        def do() -> Done:
            stored = self.state.upsert_items(DOMAIN, [Item(name, mark, 0, {"mark": mark}) for name in ids])
            return {"generation": stored.generation}

        return do

    def remove(self) -> Callable[[], Done]:
        ids = [f"i{n}" for n in self.rng.sample(range(60), 3)]
        say("begin", {"what": "remove", "ids": ids})
        return lambda: {"generation": self.state.delete_items(DOMAIN, ids).generation}

    def job_step(self) -> Callable[[], Done]:
        stage, job = f"{self.seed}-{self.turn}", self.job
        say("begin", {"what": "job", "job": job, "stage": stage})

        def do() -> Done:
            if job is None:
                self.job = self.state.create_job("import", DOMAIN, {"stage": stage}).id
                return {"job": self.job}
            self.state.update_job(job, stage=stage, status="running")
            return {}

        return do

    def generation(self) -> Callable[[], Done]:
        say("begin", {"what": "generation"})
        return lambda: {"index_generation": self.state.next_index_generation(DOMAIN)}

    def domain(self) -> Callable[[], Done]:
        name, title, delete = f"d{self.rng.randrange(3)}", f"{self.seed}-{self.turn}", self.rng.random() < 0.4
        say("begin", {"what": "domain", "name": name, "title": None if delete else title})

        def do() -> Done:
            if not delete:
                self.state.put_domain(DomainRecord(name, "f", title))
                self.state.upsert_items(name, [Item("a", title)])
            elif any(record.name == name for record in self.state.domains()):
                self.state.delete_domain(name)
            return {}

        return do

    def version(self) -> Callable[[], Done]:
        value = [self.seed, self.turn]
        say("begin", {"what": "version", "value": value})

        def do() -> Done:
            manifest = Manifest(domain=DOMAIN, kind="houlsby", spec={}, backbone="f", dtype="float32")
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
