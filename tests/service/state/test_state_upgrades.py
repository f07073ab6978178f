"""State as earlier versions wrote it,
literally: it is brought to this one with all that it holds.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import StateError
from service.state import DomainRecord, Probe, State, StoredItem, Upserted
from service.state.redis import RedisState
from service.state.sqlite import FILE, SqliteState
from tests.service.catalog_rows import read_catalog
from tests.service.redis_server import RedisServer

FIRST = """
CREATE TABLE domains (
  name TEXT PRIMARY KEY, backbone TEXT NOT NULL, title TEXT NOT NULL, created_at TEXT NOT NULL,
  generation INTEGER NOT NULL DEFAULT 0, index_generation INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE items (
  domain TEXT NOT NULL REFERENCES domains(name) ON DELETE CASCADE, row INTEGER NOT NULL,
  item_id TEXT NOT NULL,
  text TEXT NOT NULL, popularity REAL NOT NULL, metadata TEXT NOT NULL,
  PRIMARY KEY (domain, row)
) WITHOUT ROWID;
CREATE UNIQUE INDEX items_by_id ON items (domain, item_id);
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
  domain TEXT NOT NULL,
  detail TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL, done INTEGER NOT NULL,
  total INTEGER NOT NULL,
  result TEXT, error TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE INDEX jobs_by_domain ON jobs (domain);
INSERT INTO domains VALUES
  ('movies', 'f', 'Films', '2026-01-01', 3, 5), ('none', 'f', '', '2026-01-01', 0, 0);
INSERT INTO items VALUES
  ('movies', 0, 'a', 'film a', 1.0, '{"x": 1}'), ('movies', 1, 'b', 'film b', 0.0, '{}');
INSERT INTO jobs
  (id, kind, domain, detail, status, stage, done, total, created_at, updated_at) VALUES
  ('ended', 'import', 'movies', '{}', 'succeeded', '', 0, 0, '2026-01-01', '2026-01-01'),
  ('left', 'import', 'movies', '{"n": 1}', 'running', 'import', 3, 9, '2026-01-01', '2026-01-01');
PRAGMA user_version = 1;
"""
THIRD = (
    FIRST.replace(
        "metadata TEXT NOT NULL,", "metadata TEXT NOT NULL, image TEXT NOT NULL DEFAULT '',"
    )
    .replace("'{\"x\": 1}')", "'{\"x\": 1}', '')")
    .replace("'{}'), ('movies'", "'{}', ''), ('movies'")
    .replace("0.0, '{}');", "0.0, '{}', '');")
    .replace("user_version = 1", "user_version = 3")
    + """
CREATE TABLE probes (
  domain TEXT PRIMARY KEY REFERENCES domains(name) ON DELETE CASCADE, content TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO probes VALUES ('movies', '[["a", "b"]]');
"""
)


ITEMS = [StoredItem("a", "film a", 1.0, {"x": 1}), StoredItem("b", "film b")]


def check(state: State) -> None:
    """Compare what an upgraded state holds, and use what is new."""
    assert state.get_domain("movies") == DomainRecord("movies", "f", "Films", "2026-01-01")
    assert list(state.items_by_id("movies", ["a", "b"]).values()) == ITEMS
    rows = read_catalog(state, "movies")
    assert (rows.generation, rows.rows, rows.available, bool(rows.incarnation)) == (
        3,
        [0, 1],
        [True, True],
        True,
    )
    assert read_catalog(state, "none").ids == []
    left = state.claim_job("one", 60)
    assert left is not None
    assert (left.id, left.stage, left.done, left.detail, left.token) == (
        "left",
        "import",
        3,
        {"n": 1},
        1,
    )
    assert [job.status for job in state.jobs()] == ["running", "succeeded"]
    assert state.claim_job("two", 60) is None
    position = state.feed_end()
    assert state.upsert_items(
        "movies", [*ITEMS, StoredItem("c", "new", available=False)]
    ) == Upserted(1, 0, 2, 4)
    assert state.delete_items("movies", ["a"]).generation == 5
    assert state.follow(position, 0)
    found = state.changes("movies", rows.generation, rows.incarnation)
    assert found is not None
    assert ([item.row for item in found.upserted], found.deleted) == ([2], [(0, "a")])


@pytest.mark.parametrize(
    ("written", "probes"), [(FIRST, []), (THIRD, [Probe(["a"], "b")])], ids=["first", "third"]
)
def test_a_file_of_an_earlier_schema_is_brought_to_this_one(
    written: str, probes: list[Probe], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as old:
        old.executescript(written)
    upgraded = SqliteState(tmp_path)
    assert upgraded.probes("movies") == probes
    incarnation = upgraded.get_domain("movies").incarnation
    # What changed before the upgrade is not known.
    assert upgraded.changes("movies", 2, incarnation) is None
    check(upgraded)
    upgraded.close()
    again = SqliteState(tmp_path)
    assert read_catalog(again, "movies").ids == ["b", "c"]
    again.close()


def test_a_redis_of_the_first_schema_is_brought_to_this_one(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    def ask(command: str, key: str, *words: str | int) -> None:
        empty_redis.ask(command, "swaprec:{state}:" + key, *words)

    (tmp_path / "redis.epoch").write_text("e")
    ask("SET", "schema", 1)
    ask("SET", "epoch", "e")
    ask("SADD", "domains", "movies", "none")
    for name, generation, index, rows in (("movies", 3, 5, 2), ("none", 0, 0, 0)):
        title = "Films" if rows else ""
        ask(
            "HSET",
            f"domain:{name}",
            "backbone",
            "f",
            "title",
            title,
            "created_at",
            "2026-01-01",
            "born",
            f"b-{name}",
        )
        ask(
            "HSET",
            f"domain:{name}",
            "generation",
            generation,
            "index_generation",
            index,
            "rows",
            rows,
        )
    ask("HSET", "rows:movies", "a", 0, "b", 1)
    ask("HSET", "items:movies", 0, '["a", "film a", 1.0]', 1, '["b", "film b", 0.0]')
    ask("HSET", "metadata:movies", 0, '{"x": 1}')
    for generation, rows, changed in ((1, 1, ""), (2, 2, ""), (3, 2, "0,1")):
        ask(
            "XADD",
            "changes:movies",
            f"{generation}-0",
            "first",
            rows - (not changed),
            "rows",
            rows,
            "changed",
            changed,
        )
    ask("SET", "job-count", 2)
    for number, name, status, stage in (
        (1, "ended", "succeeded", ""),
        (2, "left", "running", "import"),
    ):
        job: dict[str, object] = {"id": name, "kind": "import", "domain": "movies"}
        job |= {"detail": {"n": number - 1}, "status": status}
        job |= {"stage": stage, "done": 3, "total": 9, "result": None, "error": None}
        job |= {"created_at": "2026-01-01", "updated_at": "2026-01-01"}
        ask(
            "HSET",
            f"job:{name}",
            *(word for field, value in job.items() for word in (field, json.dumps(value))),
        )
        ask("ZADD", "jobs", number, name)
        ask("ZADD", "jobs:movies", number, name)
    upgraded = RedisState(empty_redis.url, tmp_path)
    before = upgraded.changes("movies", 1, "b-movies")
    assert before is not None
    assert [item.item_id for item in before.upserted] == ["a", "b"]
    check(upgraded)
    upgraded.close()
    again = RedisState(empty_redis.url, tmp_path)
    assert read_catalog(again, "movies").ids == ["b", "c"]
    again.close()


def test_a_redis_of_the_first_schema_that_belongs_to_another_folder_is_not_touched(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "redis.epoch").write_text("mine")
    empty_redis.ask("MSET", "swaprec:{state}:schema", 1, "swaprec:{state}:epoch", "theirs")
    with pytest.raises(StateError, match="belongs to another data folder"):
        RedisState(empty_redis.url, tmp_path)
    assert empty_redis.ask("GET", "swaprec:{state}:schema") == b"1"
