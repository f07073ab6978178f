"""State in Redis 7.0 or later, shared by replicas. The second backend of `State`.

A domain is a hash (record, counters), a hash from ids to rows, hashes of items and of metadata by
row, and a log of its catalog's changes; a job is a hash, listed in sorted sets; the feed is a
stream. Writes are scripts (`scripts`, `job_scripts`), sent by `link`; nothing else writes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from adapters_store.clock import now
from service.errors import DomainNotFound, StateError, StateUnavailable
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
from service.state.redis import feed as redis_feed
from service.state.redis import jobs as redis_jobs
from service.state.redis import keys, scripts
from service.state.redis.catalog import (
    PAGE_ITEMS,
    DomainRemovedMeanwhile,
    read_changes,
    read_item,
    read_removals,
    written,
)
from service.state.redis.link import Link, Value
from service.state.redis.open import agree, check_server

_log = logging.getLogger("swaprec")


class RedisState:
    """The shared backend; safe to use from any thread."""

    # All of State, so many methods: what the longer ones do is in `catalog`, `jobs`, `feed` and
    # the scripts.

    def __init__(self, url: str, folder: Path, known: Collection[str] = ()) -> None:
        """Open the state.

        Args:
            url: `redis://`, `rediss://` or `unix://`.
            folder: the data folder, which remembers the epoch of its Redis.
            known: domains that the data folder knows: an empty Redis is refused where there are
                some.

        Raises:
            StateError: Redis cannot be used, or is not the one that this data folder belongs to.
        """
        self._link = Link(url)
        try:
            self._version, self._warnings = check_server(self._link)
            self._link.epoch = agree(self._link, folder, known)
        except StateUnavailable as error:
            self._link.close()
            todo = (
                "start it, or correct REDIS_URL; without REDIS_URL state is kept in the data folder"
            )
            raise StateError(f"{error.detail}. What to do: {todo}") from error
        except BaseException:
            self._link.close()
            raise
        for warning in self._warnings:
            _log.warning("state: %s", warning)
        self._link.watch()

    def put_domain(self, record: DomainRecord) -> bool:
        """Create a domain or change its title; return whether it was created."""
        values = (record.name, record.backbone, record.title, record.created_at or now())
        return (
            self._link.write(scripts.PUT_DOMAIN, [keys.DOMAINS, keys.record(record.name)], *values)
            == b"1"
        )

    def get_domain(self, name: str) -> DomainRecord:
        """Return a domain."""
        found = self._records([name])
        if not found:
            raise self._missing(name)
        return found[0]

    def domains(self) -> list[DomainRecord]:
        """Return all domains by name."""
        return self._records(self._names())

    def delete_domain(self, name: str) -> None:
        """Remove a domain with its items and jobs."""
        places = [keys.DOMAINS, keys.JOBS, keys.OPEN_JOBS, keys.CLAIMS, keys.LINE + name]
        places += [keys.record(name), *keys.catalog(name), keys.probes(name)]
        if self._link.write(scripts.DELETE_DOMAIN, places, name, keys.JOB) == scripts.MISSING:
            raise self._missing(name)

    def upsert_items(
        self,
        domain: str,
        items: Sequence[StoredItem],
        visibility: Visibility = "changed",
        incarnation: str = "",
    ) -> Upserted:
        """Store items in one step; the last of equal ids wins."""
        wanted = {item.item_id: item for item in items}
        values = (value for item in wanted.values() for value in written(item))
        found = self._change(scripts.UPSERT, domain, incarnation, visibility, *values)
        return Upserted(*map(int, found.split()))

    def delete_items(self, domain: str, ids: Sequence[str]) -> Deleted:
        """Remove items in one step."""
        wanted = list(dict.fromkeys(ids))
        deleted, generation, unknown = self._change(
            scripts.DELETE_ITEMS, domain, "", *wanted
        ).split(b" ")
        places = [int(place) for place in unknown.split(b",") if place]
        return Deleted(int(deleted), [wanted[place] for place in places], int(generation))

    def replace_item(
        self, domain: str, before: StoredItem, after: StoredItem, incarnation: str = ""
    ) -> Upserted | None:
        """Store an item in place of another of its id, unless that changed meanwhile."""
        found = self._change(
            scripts.REPLACE, domain, incarnation, *written(before), *written(after)[1:]
        )
        return None if found == scripts.DIFFERS else Upserted(*map(int, found.split()))

    def changes(
        self, domain: str, since: int, incarnation: str, most: int = MAX_CHANGES
    ) -> Changes | None:
        """Return what changed after a generation, read in pages as the catalog is."""
        try:
            return read_changes(self._link, domain, since, incarnation, most)
        except DomainRemovedMeanwhile:
            raise self._missing(domain) from None

    def removals(self, domain: str, since: int, incarnation: str) -> Removals | None:
        """Return what was deleted or made unavailable after a generation."""
        try:
            return read_removals(self._link, domain, since, incarnation)
        except DomainRemovedMeanwhile:
            raise self._missing(domain) from None

    def generation(self, domain: str) -> int:
        """Return how often a catalog has changed."""
        [found] = self._link.read(lambda pipe: pipe.hget(keys.record(domain), "generation"))
        if found is None:
            raise self._missing(domain)
        return int(found)

    def items_by_id(self, domain: str, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Return those of the items that exist."""
        found: dict[str, StoredItem] = {}
        for start in range(0, len(ids), PAGE_ITEMS):
            rows = self._rows(domain, ids[start : start + PAGE_ITEMS])
            found |= {item.item_id: item for _, item in self._items(domain, rows)}
        return found

    def list_items(self, domain: str, after: int, limit: int) -> list[tuple[int, StoredItem]]:
        """Return items with their rows, beginning behind row `after`;
        steps over empty rows ever faster.
        """
        [count] = self._link.read(lambda pipe: pipe.hget(keys.record(domain), "rows"))
        if count is None:
            raise self._missing(domain)
        found: list[tuple[int, StoredItem]] = []
        first = after + 1
        step = limit
        while len(found) < limit and first < int(count):
            rows = range(first, min(int(count), first + step))
            found += self._items(domain, rows)
            first = rows.stop
            step = min(2 * step, PAGE_ITEMS)
        return found[:limit]

    def count_items(self, domain: str) -> int:
        """Return the size of the catalog."""
        [count] = self._link.read(lambda pipe: pipe.hlen(keys.catalog(domain)[0]))
        return int(count)

    def put_probes(self, domain: str, probes: Sequence[Probe], incarnation: str = "") -> None:
        """Replace the domain's probes."""
        places = [keys.record(domain), keys.probes(domain)]
        if (
            self._link.write(scripts.PUT_PROBES, places, domain, incarnation, probes_text(probes))
            == scripts.MISSING
        ):
            raise self._missing(domain)

    def probes(self, domain: str) -> list[Probe]:
        """Return the domain's probes."""

        def ask(pipe: Any) -> None:
            pipe.exists(keys.record(domain))
            pipe.get(keys.probes(domain))

        there, text = self._link.read(ask)
        if not there:
            raise self._missing(domain)
        return [] if text is None else read_probes(text)

    def create_job(
        self,
        kind: str,
        domain: str,
        detail: dict[str, Any],
        result: dict[str, Any] | None = None,
        incarnation: str = "",
    ) -> JobRecord:
        """Store a queued job; the oldest of the domain that ended are removed."""
        job = redis_jobs.create(self._link, kind, domain, detail, incarnation)
        if job is None:
            raise self._missing(domain)
        return job if result is None else self.update_job(job.id, status="succeeded", result=result)

    def update_job(self, job_id: str, *, token: int | None = None, **changes: Any) -> JobRecord:
        """Change fields of a job."""
        return redis_jobs.update(self._link, job_id, token, changes)

    def claim_job(self, owner: str, lease_s: float) -> JobRecord | None:
        """Take a job that nobody holds."""
        return redis_jobs.claim(self._link, owner, lease_s)

    def renew_job(self, job_id: str, token: int, lease_s: float) -> JobRecord:
        """Hold a job for longer."""
        return redis_jobs.renew(self._link, job_id, token, lease_s)

    def release_job(self, job_id: str, token: int) -> JobRecord:
        """Give a job back."""
        return redis_jobs.release(self._link, job_id, token)

    def cancel_job(self, job_id: str) -> JobRecord:
        """End a queued job, ask the owner of a running one to stop."""
        return redis_jobs.cancel(self._link, job_id)

    def holds(self, domain: str, token: int) -> bool:
        """Whether this token's claim is still the domain's and its lease alive."""
        return redis_jobs.holds(self._link, domain, token)

    def get_job(self, job_id: str) -> JobRecord:
        """Return a job."""
        return redis_jobs.get(self._link, job_id)

    def jobs(self, domain: str | None = None, limit: int = 100) -> list[JobRecord]:
        """Return jobs, newest first."""
        return redis_jobs.newest(self._link, domain, limit)

    def open_jobs(self) -> list[JobRecord]:
        """Return the jobs that have not ended, oldest first."""
        return redis_jobs.unended(self._link)

    def count_open_jobs(self, domain: str) -> int:
        """Count the jobs of a domain that have not ended."""
        return redis_jobs.count_unended(self._link, domain)

    def announce(self, kind: EntryKind, domain: str) -> None:
        """Tell all who follow the feed of something that was written elsewhere."""
        redis_feed.announce(self._link, kind, domain)

    def feed_end(self) -> str:
        """Return the feed's position now."""
        return redis_feed.end(self._link)

    def follow(self, after: str, timeout_s: float) -> list[FeedEntry] | None:
        """Wait for entries behind a position."""
        return redis_feed.follow(self._link, after, timeout_s)

    def trouble(self) -> str | None:
        """Why the state cannot be used now, None while it can; asks nobody."""
        return self._link.trouble

    def describe(self) -> dict[str, Any]:
        """Return which backend this is, for people."""
        return {
            "backend": "redis",
            "where": self._link.shown,
            "server": self._version,
            "trouble": self.trouble(),
            "warnings": self._warnings,
        }

    def close(self) -> None:
        """Close all connections."""
        self._link.close()

    def _change(self, script: str, domain: str, incarnation: str, *values: Value) -> bytes:
        """Change a catalog, only of the given incarnation if one is given;
        returns what the script replies.
        """
        found = self._link.write(
            script, [keys.record(domain), *keys.catalog(domain)], domain, incarnation, *values
        )
        if found == scripts.MISSING:
            raise self._missing(domain)
        return found

    def _names(self) -> list[str]:
        [names] = self._link.read(lambda pipe: pipe.smembers(keys.DOMAINS))
        return sorted(name.decode() for name in names)

    def _missing(self, name: str) -> DomainNotFound:
        return DomainNotFound(name, self._names())

    def _records(self, names: Sequence[str]) -> list[DomainRecord]:
        wanted = ("backbone", "title", "created_at", "born")
        found = self._link.read(
            lambda pipe: [pipe.hmget(keys.record(name), wanted) for name in names]
        )
        return [
            DomainRecord(name, *(value.decode() for value in values))
            for name, values in zip(names, found, strict=True)
            if None not in values
        ]

    def _rows(self, domain: str, ids: Sequence[str]) -> list[int]:
        [rows] = self._link.read(lambda pipe: pipe.hmget(keys.catalog(domain)[0], list(ids)))
        return [int(row) for row in rows if row is not None]

    def _items(self, domain: str, rows: Sequence[int]) -> list[tuple[int, StoredItem]]:
        if not rows:
            return []
        _, items, metadata, *_ = keys.catalog(domain)
        answers = self._link.read(
            lambda pipe: [pipe.hmget(key, list(rows)) for key in (items, metadata)]
        )
        found = zip(rows, *answers, strict=True)
        return [(row, read_item(item, more)) for row, item, more in found if item is not None]
