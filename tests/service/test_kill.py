"""`kill -9` of a writer, and of its Redis, at random moments: nothing acknowledged is lost, the
next start just works.

Ten rounds a backend; `SWAPREC_KILL_ROUNDS=200` makes it more, `SWAPREC_KILL_SEED` makes them
others. With `-s` it prints what it saw.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_store.store import Store
from service.catalog.bases import Bases
from service.embedding.segments import Segments
from service.state import State
from service.state.snapshots import Snapshots
from tests.service.catalog_rows import read_catalog
from tests.service.kill_writer import DIGEST, DOMAIN, WIDTH, keys_of, open_state, vectors_of
from tests.service.redis_server import RedisServer

ROUNDS = int(os.environ.get("SWAPREC_KILL_ROUNDS", "10"))
SEED = int(os.environ.get("SWAPREC_KILL_SEED", "0"))
WRITER = Path(__file__).with_name("kill_writer.py")

Begun = dict[str, Any]


@dataclass
class KnownState:
    """What was acknowledged, and of the write that a kill cut off: what may have become of it."""

    rows: dict[str, int] = field(default_factory=dict)
    last_row: int = -1
    texts: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    domains: dict[str, str | None] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    versions: dict[int, list[int]] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    ever: set[str] = field(default_factory=set)
    base: int = -1
    snapshot: int = -1
    activated: int = 0
    open: Begun | None = None
    seen: Counter[str] = field(default_factory=Counter)

    def take(self, log: str) -> None:
        """Read what one writer said; a line torn by the kill was not said."""
        self.open = None
        for line in log.splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            what, more = json.loads(line)
            if what == "begin":
                self.open = more
            elif what == "done":
                assert self.open is not None
                self.seen[self.open["what"]] += 1
                self.acknowledge(self.open | more)
                self.open = None

    def acknowledge(self, done: Begun) -> None:
        match done["what"]:
            case "upsert" | "remove":
                self.acknowledge_items(done)
            case "job":
                self.jobs[done["job"]] = done["stage"]
            case "domain":
                self.domains[done["name"]] = done["title"]
            case "version":
                self.versions[done["version"]] = done["value"]
                self.activated = done["version"]
            case _:
                self.acknowledge_derived(done)

    def acknowledge_items(self, done: Begun) -> None:
        """Take an upsert, or a removal, which changes nothing where none of its items is there."""
        if done["what"] == "upsert" or any(name in self.texts for name in done["ids"]):
            self.change(done)
        assert done["generation"] == self.generation, "a write was lost, or done twice"

    def acknowledge_derived(self, done: Begun) -> None:
        if done["what"] == "segment":
            self.named += done["names"]
        elif done["what"] == "base":
            self.base = done["generation"]
        elif done["what"] == "snapshot":
            self.snapshot = done["generation"]

    def change(self, done: Begun) -> None:
        self.generation += 1
        if done["what"] == "upsert":
            self.texts |= dict.fromkeys(done["ids"], done["text"])
            self.ever.update(done["ids"])
            return
        for name in done["ids"]:
            self.texts.pop(name, None)
            self.rows.pop(name, None)

    def cut(self, what: str) -> Begun | None:
        """Return the write that was cut off, if it is of this kind."""
        return self.open if self.open is not None and self.open["what"] == what else None

    def compare_derived(self, state: State, folder: Path) -> None:
        """Hold bases, segments and the snapshot against what was acknowledged:
        each is whole, or is not there.
        """
        record = state.get_domain(DOMAIN)
        newest = Bases(folder / "bases").newest(record, DIGEST, "float32", None)
        assert newest is not None or self.base < 0
        if newest is not None:
            base, vectors, _ = newest
            assert base.generation >= self.base, "a base that was acknowledged is gone"
            names = [base.ids[row] for row in range(len(base.ids))]
            assert np.array_equal(
                vectors, vectors_of([f"{base.generation} {name}" for name in names])
            )
        out = np.zeros((len(self.named), WIDTH), np.float32)
        assert Segments(folder / "segments", WIDTH).look_up(keys_of(self.named), out).all(), (
            "a vector is lost"
        )
        assert np.array_equal(out, vectors_of(self.named))
        snapshots = Snapshots(folder / "snapshots")
        for card in snapshots.all():
            assert card.generation >= self.snapshot
            assert sum(map(len, snapshots.items(card))) == card.items
        assert self.snapshot < 0 or snapshots.generation(record) >= self.snapshot

    def compare(self, state: State, store: Store) -> None:
        """Hold what is there against what must be there; what was cut off is known from here on."""
        self._compare_items(state)
        self._compare_domains(state)
        self._compare_jobs(state)
        self._compare_versions(store)
        self.seen["cut off"] += self.open is not None

    def _compare_items(self, state: State) -> None:
        rows = read_catalog(state, DOMAIN)
        cut = self.cut("upsert") or self.cut("remove")
        there = dict(zip(rows.ids, rows.texts, strict=True))
        if cut is not None and rows.generation == self.generation + 1:
            self.seen["cut off but done"] += 1
            self.change(cut)
        assert rows.generation == self.generation
        assert there == self.texts, "whole or not at all"
        places = dict(zip(rows.ids, rows.rows, strict=True))
        assert self.rows.items() <= places.items(), "an item keeps its row"
        assert all(row > self.last_row for name, row in places.items() if name not in self.rows), (
            "a row is given once"
        )
        assert len(there) == len(rows.ids), "an id has one row"
        removals = state.removals(DOMAIN, 0, rows.incarnation)
        assert removals is not None
        self.ever |= there.keys()
        assert set(removals.deleted) == self.ever - there.keys(), (
            "what was deleted is known, and nothing else"
        )
        assert set(removals.unavailable) == {
            name for name, shown in zip(rows.ids, rows.available, strict=True) if not shown
        }
        found = state.items_by_id(DOMAIN, rows.ids)
        assert {name: item.metadata["mark"] for name, item in found.items()} == there
        self.rows = places
        self.last_row = max(self.last_row, *rows.rows, -1)

    def _compare_domains(self, state: State) -> None:
        there = {record.name: record.title for record in state.domains() if record.name != DOMAIN}
        cut = self.cut("domain") or {"name": "", "title": None}
        for name in {*there, *self.domains} - {cut["name"]}:
            assert there.get(name) == self.domains.get(name)
            if name in there:
                assert read_catalog(state, name).texts == [there[name]]
        if cut["name"]:
            assert there.get(cut["name"]) in (self.domains.get(cut["name"]), cut["title"])
            if cut["name"] in there:
                texts = read_catalog(state, cut["name"]).texts
                assert texts in ([], [self.domains.get(cut["name"])], [cut["title"]])
                # Half made: two writes were one step of the writer.
                state.delete_domain(cut["name"])
            self.domains[cut["name"]] = None

    def _compare_jobs(self, state: State) -> None:
        there = {job.id: job for job in state.jobs(DOMAIN, limit=10_000)}
        cut = self.cut("job")
        assert self.jobs.keys() <= there.keys()
        for job_id, stage in self.jobs.items():
            found = there[job_id].stage or there[job_id].detail["stage"]
            assert found == stage or (
                cut is not None and cut["job"] == job_id and found == cut["stage"]
            )
            self.jobs[job_id] = found
        for job_id in there.keys() - self.jobs.keys():
            assert cut is not None, "a job that nobody acknowledged"
            assert cut["job"] is None
            self.jobs[job_id] = there[job_id].detail["stage"]

    def _compare_versions(self, store: Store) -> None:
        there = {card.version for card in store.versions(DOMAIN)}
        cut = self.cut("version")
        assert self.versions.keys() <= there
        assert len(there - self.versions.keys()) <= (cut is not None)
        for version in there - self.versions.keys():
            assert cut is not None
            self.versions[version] = cut["value"]
        newest = max(there, default=0)
        assert self.activated <= (store.live(DOMAIN) or 0) <= newest
        if newest:
            assert store.open(DOMAIN, newest).tensors["a"].tolist() == self.versions[newest] * 500


@pytest.fixture(params=["sqlite", "redis"])
def backend(request: pytest.FixtureRequest) -> tuple[str, RedisServer | None]:
    return request.param, request.getfixturevalue("own_redis") if request.param == "redis" else None


def start(backend: str, folder: Path, url: str, seed: int) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, str(WRITER), backend, str(folder), url, str(seed)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert writer.stdout is not None
    assert writer.stdout.readline() == '["ready", {}]\n'
    return writer


def kill(writer: subprocess.Popen[str], server: RedisServer | None, rng: random.Random) -> str:
    """Kill the writer at a random moment, or its Redis before; returns how."""
    time.sleep(rng.uniform(0.0, 0.2))
    how = (
        rng.choice(["writer", "redis, then writer", "redis, and later writer"])
        if server is not None
        else "writer"
    )
    if how != "writer":
        assert server is not None
        server.kill()
        time.sleep(rng.uniform(0.0, 0.05))
    if how == "redis, and later writer":
        assert server is not None
        server.start()  # the writer is to go on by itself
        time.sleep(rng.uniform(0.3, 1.0))
    assert writer.poll() is None, "the writer ended by itself"
    writer.kill()
    if how == "redis, then writer":
        assert server is not None
        server.start()
    return how


def test_killed_at_random_moments_nothing_acknowledged_is_lost(
    backend: tuple[str, RedisServer | None], tmp_path: Path
) -> None:
    name, server = backend
    rng = random.Random(SEED)
    known = KnownState()
    ways = Counter[str]()
    url = server.url if server is not None else ""
    for turn in range(1, ROUNDS + 1):
        writer = start(name, tmp_path, url, turn)
        ways[kill(writer, server, rng)] += 1
        known.take(writer.communicate()[0])
        state = open_state(name, tmp_path, url)
        known.compare_derived(state, tmp_path)
        known.compare(state, Store(tmp_path / "adapters"))
        state.close()
    sys.stdout.write(
        f"\n{name}: {ROUNDS} rounds, seed {SEED}: {dict(ways)}, acknowledged {dict(known.seen)}\n"
    )
    assert sum(known.seen.values()) > 10 * ROUNDS
    store = Store(tmp_path / "adapters")
    assert all(
        store.open(DOMAIN, one).tensors["a"][:2].tolist() == value
        for one, value in known.versions.items()
    )
