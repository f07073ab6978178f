"""State in one SQLite file, shared by the processes of a host.

The first backend of `State`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from adapters_store.clock import now
from service.state import (
    MAX_CHANGES,
    Changes,
    Deleted,
    DomainRecord,
    EntryKind,
    FeedEntry,
    JobRecord,
    Probe,
    Removals,
    StoredItem,
    Upserted,
    Visibility,
    probes_text,
    read_probes,
)
from service.state.sqlite import feed as sqlite_feed
from service.state.sqlite import items as sqlite_items
from service.state.sqlite import jobs as sqlite_jobs
from service.state.sqlite.file import SqliteFile

FILE = "state.db"

Operation = TypeVar("Operation", bound=Callable[..., Any])


def _answering(ask: Operation) -> Operation:
    """Have an operation raise errors of SQLite as the service's (see `SqliteFile.answering`)."""

    @wraps(ask)
    def answer(state: SqliteState, *args: Any, **kwargs: Any) -> Any:
        with state.file.answering():
            return ask(state, *args, **kwargs)

    return cast("Operation", answer)


class SqliteState:
    """The embedded backend; safe to use from any thread and any process of the host."""

    # All of State, so many methods: each opens its transaction here, what it does is in
    # `items`, `jobs` and `feed`.

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = SqliteFile(folder / FILE)
        self._closing = threading.Event()

    @_answering
    def put_domain(self, record: DomainRecord) -> bool:
        """Create a domain or change its title; return whether it was created."""
        content = (record.backbone, record.title)
        with self.file.writing() as db:
            found = db.execute(
                "SELECT backbone, title FROM domains WHERE name = ?", (record.name,)
            ).fetchone()
            if found is None:
                values = (record.name, *content, record.created_at or now())
                query = (
                    "INSERT INTO domains (name, backbone, title, created_at, born) VALUES (?, ?, ?,"
                    " ?, {})"
                )
                db.execute(query.format("lower(hex(randomblob(16)))"), values)
            else:
                db.execute(
                    "UPDATE domains SET backbone = ?, title = ? WHERE name = ?",
                    (*content, record.name),
                )
            if found != content:
                sqlite_feed.append(db, "domain", record.name)
        return found is None

    @_answering
    def get_domain(self, name: str) -> DomainRecord:
        """Return a domain."""
        db = self.file.connection()
        query = "SELECT name, backbone, title, created_at, born FROM domains WHERE name = ?"
        row = db.execute(query, (name,)).fetchone()
        if row is None:
            raise sqlite_items.missing(db, name)
        return DomainRecord(*row)

    @_answering
    def domains(self) -> list[DomainRecord]:
        """Return all domains by name."""
        query = "SELECT name, backbone, title, created_at, born FROM domains ORDER BY name"
        return [DomainRecord(*row) for row in self.file.connection().execute(query)]

    @_answering
    def delete_domain(self, name: str) -> None:
        """Remove a domain with its items and jobs."""
        with self.file.writing() as db:
            if db.execute("DELETE FROM domains WHERE name = ?", (name,)).rowcount == 0:
                raise sqlite_items.missing(db, name)
            db.execute("DELETE FROM jobs WHERE domain = ?", (name,))
            sqlite_feed.append(db, "gone", name)

    @_answering
    def upsert_items(
        self,
        domain: str,
        items: Sequence[StoredItem],
        visibility: Visibility = "changed",
        incarnation: str = "",
    ) -> Upserted:
        """Store items in one transaction; the last of equal ids wins."""
        with self.file.writing() as db:
            sqlite_items.check_incarnation(db, domain, incarnation)
            return sqlite_items.upsert(db, domain, items, visibility)

    @_answering
    def delete_items(self, domain: str, ids: Sequence[str]) -> Deleted:
        """Remove items in one transaction."""
        with self.file.writing() as db:
            return sqlite_items.delete(db, domain, ids)

    @_answering
    def replace_item(
        self, domain: str, before: StoredItem, after: StoredItem, incarnation: str = ""
    ) -> Upserted | None:
        """Store an item in place of another of its id, unless that changed meanwhile."""
        with self.file.writing() as db:
            sqlite_items.check_incarnation(db, domain, incarnation)
            return sqlite_items.replace(db, domain, before, after)

    @_answering
    def changes(
        self, domain: str, since: int, incarnation: str, most: int = MAX_CHANGES
    ) -> Changes | None:
        """Return what changed after a generation."""
        with self.file.reading() as db:
            return sqlite_items.changes(db, domain, since, incarnation, most)

    @_answering
    def removals(self, domain: str, since: int, incarnation: str) -> Removals | None:
        """Return what was deleted or made unavailable after a generation."""
        with self.file.reading() as db:
            return sqlite_items.removals(db, domain, since, incarnation)

    @_answering
    def generation(self, domain: str) -> int:
        """Return how often a catalog has changed."""
        return sqlite_items.generation(self.file.connection(), domain)

    @_answering
    def items_by_id(self, domain: str, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Return those of the items that exist."""
        found = sqlite_items.known(self.file.connection(), domain, list(ids))
        return {item_id: item for item_id, (_, item) in found.items()}

    @_answering
    def list_items(self, domain: str, after: int, limit: int) -> list[tuple[int, StoredItem]]:
        """Return items with their rows, beginning behind row `after`."""
        self.get_domain(domain)
        return sqlite_items.page(self.file.connection(), domain, after, limit)

    @_answering
    def count_items(self, domain: str) -> int:
        """Return the size of the catalog."""
        query = "SELECT count(*) FROM items WHERE domain = ?"
        return int(self.file.connection().execute(query, (domain,)).fetchone()[0])

    @_answering
    def put_probes(self, domain: str, probes: Sequence[Probe], incarnation: str = "") -> None:
        """Replace the domain's probes."""
        with self.file.writing() as db:
            sqlite_items.check_incarnation(db, domain, incarnation)
            try:
                db.execute(
                    "INSERT OR REPLACE INTO probes VALUES (?, ?)", (domain, probes_text(probes))
                )
            except sqlite3.IntegrityError as error:
                raise sqlite_items.missing(db, domain) from error
            sqlite_feed.append(db, "probes", domain)

    @_answering
    def probes(self, domain: str) -> list[Probe]:
        """Return the domain's probes."""
        self.get_domain(domain)
        query = "SELECT content FROM probes WHERE domain = ?"
        row = self.file.connection().execute(query, (domain,)).fetchone()
        return [] if row is None else read_probes(row[0])

    @_answering
    def create_job(
        self,
        kind: str,
        domain: str,
        detail: dict[str, Any],
        result: dict[str, Any] | None = None,
        incarnation: str = "",
    ) -> JobRecord:
        """Store a queued job; the oldest of the domain that ended are removed."""
        with self.file.writing() as db:
            sqlite_items.check_incarnation(db, domain, incarnation)
            return sqlite_jobs.create(db, kind, domain, detail, result)

    @_answering
    def update_job(self, job_id: str, *, token: int | None = None, **changes: Any) -> JobRecord:
        """Change fields of a job."""
        with self.file.writing() as db:
            return sqlite_jobs.update(db, job_id, changes, token)

    @_answering
    def claim_job(self, owner: str, lease_s: float) -> JobRecord | None:
        """Take a job that nobody holds; looking for one keeps nobody from writing."""
        if sqlite_jobs.claimable(self.file.connection()) is None:
            return None
        with self.file.writing() as db:
            return sqlite_jobs.claim(db, owner, lease_s)

    @_answering
    def renew_job(self, job_id: str, token: int, lease_s: float) -> JobRecord:
        """Hold a job for longer."""
        with self.file.writing() as db:
            return sqlite_jobs.renew(db, job_id, token, lease_s)

    @_answering
    def release_job(self, job_id: str, token: int) -> JobRecord:
        """Give a job back."""
        with self.file.writing() as db:
            return sqlite_jobs.release(db, job_id, token)

    @_answering
    def cancel_job(self, job_id: str) -> JobRecord:
        """End a queued job, ask the owner of a running one to stop."""
        with self.file.writing() as db:
            return sqlite_jobs.cancel(db, job_id)

    @_answering
    def holds(self, domain: str, token: int) -> bool:
        """Whether this token's claim is still the domain's and its lease alive."""
        return sqlite_jobs.holds(self.file.connection(), domain, token)

    @_answering
    def get_job(self, job_id: str) -> JobRecord:
        """Return a job."""
        return sqlite_jobs.get(self.file.connection(), job_id)

    @_answering
    def jobs(self, domain: str | None = None, limit: int = 100) -> list[JobRecord]:
        """Return jobs, newest first."""
        return sqlite_jobs.newest(self.file.connection(), domain, limit)

    @_answering
    def open_jobs(self) -> list[JobRecord]:
        """Return the jobs that have not ended, oldest first."""
        return sqlite_jobs.unended(self.file.connection())

    @_answering
    def count_open_jobs(self, domain: str) -> int:
        """Count the jobs of a domain that have not ended."""
        return sqlite_jobs.count_unended(self.file.connection(), domain)

    @_answering
    def announce(self, kind: EntryKind, domain: str) -> None:
        """Tell all who follow the feed of something that was written elsewhere."""
        with self.file.writing() as db:
            sqlite_feed.append(db, kind, domain)

    @_answering
    def feed_end(self) -> str:
        """Return the feed's position now."""
        return sqlite_feed.end(self.file.connection())

    def follow(self, after: str, timeout_s: float) -> list[FeedEntry] | None:
        """Wait for entries behind a position."""
        try:
            with self.file.answering():
                return sqlite_feed.follow(self.file.connection(), after, timeout_s, self._closing)
        except sqlite3.ProgrammingError:  # closed while it was about to look
            if self._closing.is_set():
                return []
            raise

    def trouble(self) -> str | None:
        """Return why the file could not be used when it was last asked, None where it could."""
        return self.file.trouble

    def describe(self) -> dict[str, Any]:
        """Return which backend this is, for people."""
        return {
            "backend": "sqlite",
            "where": str(self.file.path),
            "trouble": self.trouble(),
            "warnings": [],
        }

    def close(self) -> None:
        """Close every thread's connection."""
        self._closing.set()
        self.file.close()
