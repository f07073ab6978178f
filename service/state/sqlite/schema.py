"""The tables of the SQLite file, and what brings a file of an earlier version to them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from service.errors import StateError

SCHEMA = 5

_DOMAINS = """CREATE TABLE domains (
  name TEXT PRIMARY KEY, backbone TEXT NOT NULL, title TEXT NOT NULL, created_at TEXT NOT NULL,
  generation INTEGER NOT NULL DEFAULT 0, index_generation INTEGER NOT NULL DEFAULT 0,
  born TEXT NOT NULL DEFAULT '',
  next_row INTEGER NOT NULL DEFAULT 0, forgotten INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID"""
_ITEMS = """CREATE TABLE items (
  domain TEXT NOT NULL REFERENCES domains(name) ON DELETE CASCADE, row INTEGER NOT NULL,
  item_id TEXT NOT NULL,
  text TEXT NOT NULL, popularity REAL NOT NULL, metadata TEXT NOT NULL,
  image TEXT NOT NULL DEFAULT '',
  available INTEGER NOT NULL DEFAULT 1, changed INTEGER NOT NULL DEFAULT 0,
  later INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (domain, row)
) WITHOUT ROWID"""
_ITEMS_BY_ID = "CREATE UNIQUE INDEX items_by_id ON items (domain, item_id)"
_JOBS = """CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
  domain TEXT NOT NULL,
  detail TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL, done INTEGER NOT NULL,
  total INTEGER NOT NULL,
  result TEXT, error TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
  owner TEXT NOT NULL DEFAULT '',
  token INTEGER NOT NULL DEFAULT 0, cancelling INTEGER NOT NULL DEFAULT 0,
  lease REAL NOT NULL DEFAULT 0,
  eta_s REAL
)"""
_JOBS_BY_DOMAIN = "CREATE INDEX jobs_by_domain ON jobs (domain)"
_PROBES = """CREATE TABLE probes (
  domain TEXT PRIMARY KEY REFERENCES domains(name) ON DELETE CASCADE, content TEXT NOT NULL
) WITHOUT ROWID"""
_BY_CHANGE = (
    "CREATE INDEX items_by_change ON items (domain, later, changed)",
    "CREATE INDEX items_hidden ON items (domain, changed) WHERE NOT available",
)
_SHARED = (
    """CREATE TABLE tombstones (
      domain TEXT NOT NULL REFERENCES domains(name) ON DELETE CASCADE, row INTEGER NOT NULL,
      generation INTEGER NOT NULL, item_id TEXT NOT NULL, PRIMARY KEY (domain, row)
    ) WITHOUT ROWID""",
    "CREATE INDEX tombstones_by_generation ON tombstones (domain, generation)",
    "CREATE INDEX jobs_open ON jobs (domain, number) WHERE status IN ('queued', 'running')",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO counters VALUES ('feed', 0), ('token', 0)",
    (
        "CREATE TABLE feed (place INTEGER PRIMARY KEY, kind TEXT NOT NULL, domain TEXT NOT NULL, at"
        " REAL NOT NULL)"
    ),
)
"""What processes share a file with, since schema 4."""
_NOW = (_DOMAINS, _ITEMS, _ITEMS_BY_ID, _JOBS, _JOBS_BY_DOMAIN, _PROBES, *_SHARED, *_BY_CHANGE)
_UPGRADES: dict[int, tuple[str, ...]] = {
    1: ("ALTER TABLE items ADD COLUMN image TEXT NOT NULL DEFAULT ''",),
    2: (_PROBES,),
    3: (
        "ALTER TABLE domains ADD COLUMN born TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE domains ADD COLUMN next_row INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE domains ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0",
        """UPDATE domains SET born = lower(hex(randomblob(16))), forgotten = generation,
          next_row = (SELECT coalesce(max(row) + 1, 0) FROM items WHERE domain = name)""",
        "ALTER TABLE items ADD COLUMN available INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE items ADD COLUMN changed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN token INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN cancelling INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN lease REAL NOT NULL DEFAULT 0",
        *_SHARED,
    ),
    4: (
        "ALTER TABLE jobs ADD COLUMN eta_s REAL",
        "ALTER TABLE items ADD COLUMN later INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX IF EXISTS items_by_change",
        *_BY_CHANGE,
    ),
}
"""By the schema they start from, what brings a file one schema further."""


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of an empty file, or upgrade those of an old one; the caller holds a
    transaction.

    Raises:
        StateError: a newer version wrote it.
    """
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found not in (0, SCHEMA, *_UPGRADES):
        raise StateError(
            f"{path} has schema {found}, this version of swaprec has {SCHEMA}: upgrade swaprec"
        )
    statements = (
        _NOW if found == 0 else [one for start in range(found, SCHEMA) for one in _UPGRADES[start]]
    )
    for statement in statements:
        db.execute(statement)
    if found != SCHEMA:
        db.execute(f"PRAGMA user_version = {SCHEMA}")
