"""State in one SQLite file: write-ahead log, synced commits, one connection a thread."""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters_store.activations import now
from service.errors import DomainNotFound, JobNotFound, OutOfSpace, StateError
from service.state import CatalogRows, DomainRecord, Item, Job, Probe, Upserted, probes_text, read_probes

SCHEMA = 3
FILE = "state.db"
BUSY_MS = 10_000
KEPT_JOBS = 1000
IDS = 500

_TABLES = """
CREATE TABLE domains (
  name TEXT PRIMARY KEY, backbone TEXT NOT NULL, title TEXT NOT NULL, created_at TEXT NOT NULL,
  generation INTEGER NOT NULL DEFAULT 0, index_generation INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE items (
  domain TEXT NOT NULL REFERENCES domains(name) ON DELETE CASCADE, row INTEGER NOT NULL, item_id TEXT NOT NULL,
  text TEXT NOT NULL, popularity REAL NOT NULL, metadata TEXT NOT NULL, image TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (domain, row)
) WITHOUT ROWID;
CREATE UNIQUE INDEX items_by_id ON items (domain, item_id);
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, domain TEXT NOT NULL,
  detail TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL, done INTEGER NOT NULL, total INTEGER NOT NULL,
  result TEXT, error TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE INDEX jobs_by_domain ON jobs (domain);
{probes}
"""
_PROBES = """CREATE TABLE probes (
  domain TEXT PRIMARY KEY REFERENCES domains(name) ON DELETE CASCADE, content TEXT NOT NULL
) WITHOUT ROWID"""
_UPGRADES = {1: "ALTER TABLE items ADD COLUMN image TEXT NOT NULL DEFAULT ''", 2: _PROBES}
"""By the schema they start from, what brings a file one schema further."""
_ITEM_FIELDS = "item_id, text, popularity, metadata, image"
_JOB_FIELDS = "id, kind, domain, detail, status, stage, done, total, result, error, created_at, updated_at"


class SqliteState:
    """The embedded backend; safe to use from any thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._local = threading.local()
        self._all: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        self._open_schema()

    def put_domain(self, record: DomainRecord) -> bool:
        """Create a domain or change its title; return whether it was created."""
        with self._writing() as db:
            known = db.execute("SELECT 1 FROM domains WHERE name = ?", (record.name,)).fetchone()
            if known:
                changes = (record.title, record.backbone, record.name)
                db.execute("UPDATE domains SET title = ?, backbone = ? WHERE name = ?", changes)
            else:
                values = (record.name, record.backbone, record.title, record.created_at or now())
                db.execute("INSERT INTO domains (name, backbone, title, created_at) VALUES (?, ?, ?, ?)", values)
        return not known

    def get_domain(self, name: str) -> DomainRecord:
        """Return a domain."""
        query = "SELECT name, backbone, title, created_at FROM domains WHERE name = ?"
        row = self._db().execute(query, (name,)).fetchone()
        if row is None:
            raise DomainNotFound(name, [record.name for record in self.domains()])
        return DomainRecord(*row)

    def domains(self) -> list[DomainRecord]:
        """Return all domains by name."""
        rows = self._db().execute("SELECT name, backbone, title, created_at FROM domains ORDER BY name")
        return [DomainRecord(*row) for row in rows]

    def delete_domain(self, name: str) -> None:
        """Remove a domain with its items and jobs."""
        self.get_domain(name)
        with self._writing() as db:
            db.execute("DELETE FROM domains WHERE name = ?", (name,))
            db.execute("DELETE FROM jobs WHERE domain = ?", (name,))

    def upsert_items(self, domain: str, items: Sequence[Item]) -> Upserted:
        """Store items in one transaction; the last of equal ids wins."""
        wanted = {item.item_id: item for item in items}
        with self._writing() as db:
            found = db.execute("SELECT generation FROM domains WHERE name = ?", (domain,)).fetchone()
            if found is None:
                raise DomainNotFound(domain, [record.name for record in self.domains()])
            known = self._known(db, domain, list(wanted))
            changed = [item for item in wanted.values() if item.item_id in known and known[item.item_id][1] != item]
            fresh = [item for item in wanted.values() if item.item_id not in known]
            row = db.execute("SELECT coalesce(max(row) + 1, 0) FROM items WHERE domain = ?", (domain,)).fetchone()[0]
            rows = [(domain, known[item.item_id][0], *_columns(item)) for item in changed]
            rows += [(domain, row + place, *_columns(item)) for place, item in enumerate(fresh)]
            insert = f"INSERT OR REPLACE INTO items (domain, row, {_ITEM_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
            db.executemany(insert, rows)
            generation = found[0] + bool(rows)
            db.execute("UPDATE domains SET generation = ? WHERE name = ?", (generation, domain))
        return Upserted(len(fresh), len(changed), len(wanted) - len(fresh) - len(changed), generation)

    def catalog(self, domain: str) -> CatalogRows:
        """Return a consistent view of the whole catalog."""
        db = self._db()
        db.execute("BEGIN")
        try:
            found = db.execute("SELECT generation FROM domains WHERE name = ?", (domain,)).fetchone()
            query = "SELECT item_id, text, popularity, image FROM items WHERE domain = ? ORDER BY row"
            rows = db.execute(query, (domain,))
            columns: tuple[Sequence[Any], ...] = tuple(zip(*rows, strict=True)) or ((), (), (), ())
        finally:
            db.execute("ROLLBACK")
        if found is None:
            raise DomainNotFound(domain, [record.name for record in self.domains()])
        ids, texts, popularity, images = columns
        return CatalogRows(found[0], list(ids), list(texts), list(popularity), list(images))

    def items_by_id(self, domain: str, ids: Sequence[str]) -> dict[str, Item]:
        """Return those of the items that exist."""
        return {item_id: item for item_id, (_, item) in self._known(self._db(), domain, list(ids)).items()}

    def list_items(self, domain: str, after: int, limit: int) -> list[tuple[int, Item]]:
        """Return items with their rows, beginning behind row `after`."""
        self.get_domain(domain)
        query = f"SELECT row, {_ITEM_FIELDS} FROM items WHERE domain = ? AND row > ? ORDER BY row LIMIT ?"  # noqa: S608 - constants
        return [(row[0], _item(row[1:])) for row in self._db().execute(query, (domain, after, limit))]

    def count_items(self, domain: str) -> int:
        """Return the size of the catalog."""
        return int(self._db().execute("SELECT count(*) FROM items WHERE domain = ?", (domain,)).fetchone()[0])

    def put_probes(self, domain: str, probes: Sequence[Probe]) -> None:
        """Replace the domain's probes."""
        self.get_domain(domain)
        with self._writing() as db:
            try:
                db.execute("INSERT OR REPLACE INTO probes VALUES (?, ?)", (domain, probes_text(probes)))
            except sqlite3.IntegrityError as error:  # deleted meanwhile
                raise DomainNotFound(domain, [record.name for record in self.domains()]) from error

    def probes(self, domain: str) -> list[Probe]:
        """Return the domain's probes."""
        self.get_domain(domain)
        row = self._db().execute("SELECT content FROM probes WHERE domain = ?", (domain,)).fetchone()
        return [] if row is None else read_probes(row[0])

    def next_index_generation(self, domain: str) -> int:
        """Count up and return the domain's index generation."""
        with self._writing() as db:
            query = (
                "UPDATE domains SET index_generation = index_generation + 1 WHERE name = ? RETURNING index_generation"
            )
            found = db.execute(query, (domain,)).fetchone()
        if found is None:
            raise DomainNotFound(domain, [record.name for record in self.domains()])
        return int(found[0])

    def create_job(self, kind: str, domain: str, detail: dict[str, Any]) -> Job:
        """Store a queued job; the oldest beyond a thousand are forgotten."""
        job = Job(uuid.uuid4().hex, kind, domain, detail, created_at=now(), updated_at=now())
        with self._writing() as db:
            values = (
                job.id,
                kind,
                domain,
                json.dumps(detail),
                "queued",
                "",
                0,
                0,
                None,
                None,
                job.created_at,
                job.updated_at,
            )
            db.execute(f"INSERT INTO jobs ({_JOB_FIELDS}) VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - our own field names
            keep = "SELECT number FROM jobs ORDER BY number DESC LIMIT -1 OFFSET ?"
            ended = "status IN ('succeeded', 'failed')"
            db.execute(f"DELETE FROM jobs WHERE {ended} AND number IN ({keep})", (KEPT_JOBS,))  # noqa: S608 - constants
        return job

    def update_job(self, job_id: str, **changes: Any) -> Job:
        """Change fields of a job."""
        for name in ("result", "error", "detail"):
            if changes.get(name) is not None:
                changes[name] = json.dumps(changes[name])
        changes["updated_at"] = now()
        assigned = ", ".join(f"{name} = ?" for name in changes)
        with self._writing() as db:
            query = f"UPDATE jobs SET {assigned} WHERE id = ?"  # noqa: S608 - names of fields, given in code
            if db.execute(query, (*changes.values(), job_id)).rowcount == 0:
                raise JobNotFound(f"job {job_id!r} does not exist")
        return self.get_job(job_id)

    def get_job(self, job_id: str) -> Job:
        """Return a job."""
        query = f"SELECT {_JOB_FIELDS} FROM jobs WHERE id = ?"  # noqa: S608 - constants
        row = self._db().execute(query, (job_id,)).fetchone()
        if row is None:
            raise JobNotFound(f"job {job_id!r} does not exist; GET /jobs lists those that do")
        return _job(row)

    def jobs(self, domain: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, newest first."""
        where, values = ("WHERE domain = ?", (domain, limit)) if domain is not None else ("", (limit,))
        query = f"SELECT {_JOB_FIELDS} FROM jobs {where} ORDER BY number DESC LIMIT ?"  # noqa: S608 - constants
        return [_job(row) for row in self._db().execute(query, values)]

    def trouble(self) -> str | None:
        """Return None: a file in the data folder does not go away."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return which backend this is, for people."""
        return {"backend": "sqlite", "where": str(self._path), "trouble": None, "warnings": []}

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._all.values():
                connection.close()
            self._all.clear()

    @staticmethod
    def _known(db: sqlite3.Connection, domain: str, ids: list[str]) -> dict[str, tuple[int, Item]]:
        found: dict[str, tuple[int, Item]] = {}
        for start in range(0, len(ids), IDS):
            some = ids[start : start + IDS]
            wanted = f"domain = ? AND item_id IN ({', '.join('?' * len(some))})"
            # Named, since without statistics SQLite would rather read the whole catalog for ten ids (300 times slower).
            query = f"SELECT row, {_ITEM_FIELDS} FROM items INDEXED BY items_by_id WHERE {wanted}"  # noqa: S608 - constants and marks
            found |= {row[1]: (row[0], _item(row[1:])) for row in db.execute(query, (domain, *some))}
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        db = self._db()
        with _disk_errors():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _db(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
            self._keep(connection)
        return connection

    def _keep(self, connection: sqlite3.Connection) -> None:
        """Remember this thread's connection; close those of threads that ended: the server's come and go."""
        with self._lock:
            for thread in [thread for thread in self._all if not thread.is_alive()]:
                self._all.pop(thread).close()
            self._all[threading.current_thread()] = connection

    def _open_schema(self) -> None:
        try:
            with self._writing() as db:
                found = db.execute("PRAGMA user_version").fetchone()[0]
                if found == 0:
                    for statement in _TABLES.format(probes=_PROBES).split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {SCHEMA}")
                while found in _UPGRADES:
                    db.execute(_UPGRADES[found])
                    found += 1
                    db.execute(f"PRAGMA user_version = {found}")
                if found not in (0, SCHEMA):
                    raise StateError(
                        f"{self._path} has schema {found}, this version of swaprec has {SCHEMA}: upgrade swaprec"
                    )
        except sqlite3.DatabaseError as error:
            raise StateError(f"{self._path} cannot be used as state: {error}") from error


@contextmanager
def _disk_errors() -> Iterator[None]:
    full = "no room left on the disk for the state: free some space and try again"
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise OutOfSpace(full) from error
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutOfSpace(full) from error
        raise


def _columns(item: Item) -> tuple[str, str, float, str, str]:
    metadata = json.dumps(item.metadata, sort_keys=True, ensure_ascii=False)
    return item.item_id, item.text, item.popularity, metadata, item.image


def _item(row: Sequence[Any]) -> Item:
    return Item(row[0], row[1], row[2], json.loads(row[3]), row[4])


def _job(row: Sequence[Any]) -> Job:
    values = list(row)
    for place in (3, 8, 9):
        values[place] = json.loads(values[place]) if values[place] is not None else None
    return Job(*values)
