"""State in Redis 7.0 or later. The second backend of the Protocol.

A domain is a hash (record, counters), a hash from ids to rows, hashes of items and of metadata by row, and a log of
its catalog's changes; a job is a hash, listed in two sorted sets. Writes are scripts (`redis_scripts`), sent by
`redis_link`; nothing else writes.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from adapters_store.activations import now
from adapters_store.files import write_beside
from service.errors import DomainNotFound, JobNotFound, StateError, StateUnavailable
from service.state import CatalogRows, DomainRecord, Item, Job, Probe, Upserted, probes_text, read_probes
from service.state import redis_scripts as scripts
from service.state.redis_link import EPOCH, JOB, JOBS, LINE, ROOT, SCHEMA_KEY, Link, Value

SCHEMA = "1"
FILE = "redis.epoch"
ANY = "any"
OLDEST = (7, 0)
KEPT_JOBS = 1000
KEPT_CHANGES = 1000
PAGE = 2000
LAST = str(2**64 - 1)  # behind every entry of a log
DOMAINS, JOB_COUNT = f"{ROOT}domains", f"{ROOT}job-count"

T = TypeVar("T")
_log = logging.getLogger("swaprec")


class RedisState:
    """The shared backend; safe to use from any thread."""

    def __init__(self, url: str, folder: Path, known: Collection[str] = ()) -> None:
        """Open the state.

        Args:
            url: `redis://`, `rediss://` or `unix://`.
            folder: the data folder, which remembers the epoch of its Redis.
            known: domains that the data folder knows: an empty Redis is refused where there are some.

        Raises:
            StateError: Redis cannot be used, or is not the one that this data folder belongs to.
        """
        self._link = Link(url)
        try:
            self._version, self._warnings = _check_server(self._link)
            self._link.epoch = _agree(self._link, folder, known)
        except StateUnavailable as error:
            self._link.close()
            todo = "start it, or correct REDIS_URL; without REDIS_URL state is kept in the data folder"
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
        return self._link.write(scripts.PUT_DOMAIN, [DOMAINS, _domain(record.name)], *values) == b"1"

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
        keys = [DOMAINS, JOBS, LINE + name, _domain(name), *_catalog(name), _probes(name)]
        if self._link.write(scripts.DELETE_DOMAIN, keys, name, JOB) == scripts.MISSING:
            raise self._missing(name)

    def upsert_items(self, domain: str, items: Sequence[Item]) -> Upserted:
        """Store items in one step; the last of equal ids wins."""
        wanted = {item.item_id: item for item in items}
        values = [value for item in wanted.values() for value in _written(item)]
        found = self._link.write(scripts.UPSERT, [_domain(domain), *_catalog(domain)], KEPT_CHANGES, *values)
        if found == scripts.MISSING:
            raise self._missing(domain)
        return Upserted(*map(int, found.split()))

    def catalog(self, domain: str) -> CatalogRows:
        """Return a consistent view of the whole catalog, read in pages so that Redis answers others in between."""
        while True:
            reading = _Reading(self._link, domain)
            try:
                rows = reading.finish()
            except _GoneMeanwhile:
                raise self._missing(domain) from None
            if rows is not None:
                return rows

    def items_by_id(self, domain: str, ids: Sequence[str]) -> dict[str, Item]:
        """Return those of the items that exist."""
        found: dict[str, Item] = {}
        for some in _pages(ids):
            found |= {item.item_id: item for _, item in self._items(domain, self._rows(domain, some))}
        return found

    def list_items(self, domain: str, after: int, limit: int) -> list[tuple[int, Item]]:
        """Return items with their rows, beginning behind row `after`."""
        [count] = self._link.read(lambda pipe: pipe.hget(_domain(domain), "rows"))
        if count is None:
            raise self._missing(domain)
        return self._items(domain, range(after + 1, min(int(count), after + 1 + limit)))

    def count_items(self, domain: str) -> int:
        """Return the size of the catalog."""
        [count] = self._link.read(lambda pipe: pipe.hget(_domain(domain), "rows"))
        return int(count or 0)

    def put_probes(self, domain: str, probes: Sequence[Probe]) -> None:
        """Replace the domain's probes."""
        keys = [_domain(domain), _probes(domain)]
        if self._link.write(scripts.PUT_PROBES, keys, probes_text(probes)) == scripts.MISSING:
            raise self._missing(domain)

    def probes(self, domain: str) -> list[Probe]:
        """Return the domain's probes."""

        def ask(pipe: Any) -> None:
            pipe.exists(_domain(domain))
            pipe.get(_probes(domain))

        there, text = self._link.read(ask)
        if not there:
            raise self._missing(domain)
        return [] if text is None else read_probes(text)

    def next_index_generation(self, domain: str) -> int:
        """Count up and return the domain's index generation."""
        found = self._link.write(scripts.NEXT_INDEX_GENERATION, [_domain(domain)])
        if found == scripts.MISSING:
            raise self._missing(domain)
        return int(found)

    def create_job(self, kind: str, domain: str, detail: dict[str, Any]) -> Job:
        """Store a queued job; the oldest beyond a thousand are forgotten.

        Where it fails, it is not left to run one day: it is taken back once Redis answers.
        """
        job = Job(uuid.uuid4().hex, kind, domain, detail, created_at=now(), updated_at=now())
        keys = [JOBS, LINE + domain, JOB_COUNT, JOB + job.id]
        try:
            self._link.write(scripts.CREATE_JOB, keys, job.id, KEPT_JOBS, JOB, LINE, *_fields(job.to_json()))
        except StateUnavailable:
            self._link.take_back(job.id)
            raise
        return job

    def update_job(self, job_id: str, **changes: Any) -> Job:
        """Change fields of a job."""
        values = _fields({**changes, "updated_at": now()})
        if self._link.write(scripts.UPDATE_JOB, [JOB + job_id], *values) == scripts.MISSING:
            raise JobNotFound(f"job {job_id!r} does not exist")
        return self.get_job(job_id)

    def get_job(self, job_id: str) -> Job:
        """Return a job."""
        [found] = self._link.read(lambda pipe: pipe.hgetall(JOB + job_id))
        if not found:
            raise JobNotFound(f"job {job_id!r} does not exist; GET /jobs lists those that do")
        return _job(found)

    def jobs(self, domain: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, newest first."""
        line = JOBS if domain is None else LINE + domain
        [ids] = self._link.read(lambda pipe: pipe.zrevrange(line, 0, limit - 1))
        found = [job for some in _pages(ids) for job in self._jobs(some)]
        return [_job(one) for one in found if one]  # one of a domain deleted in between is empty

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

    def _names(self) -> list[str]:
        [names] = self._link.read(lambda pipe: pipe.smembers(DOMAINS))
        return sorted(name.decode() for name in names)

    def _missing(self, name: str) -> DomainNotFound:
        return DomainNotFound(name, self._names())

    def _records(self, names: Sequence[str]) -> list[DomainRecord]:
        wanted = ("backbone", "title", "created_at")
        found = self._link.read(lambda pipe: [pipe.hmget(_domain(name), wanted) for name in names])
        return [
            DomainRecord(name, *(value.decode() for value in values))
            for name, values in zip(names, found, strict=True)
            if None not in values
        ]

    def _rows(self, domain: str, ids: Sequence[str]) -> list[int]:
        [rows] = self._link.read(lambda pipe: pipe.hmget(_catalog(domain)[0], list(ids)))
        return [int(row) for row in rows if row is not None]

    def _items(self, domain: str, rows: Sequence[int]) -> list[tuple[int, Item]]:
        if not rows:
            return []
        _, items, metadata, _ = _catalog(domain)
        answers = self._link.read(lambda pipe: [pipe.hmget(key, list(rows)) for key in (items, metadata)])
        found = zip(rows, *answers, strict=True)
        return [(row, _item(item, more)) for row, item, more in found if item is not None]

    def _jobs(self, ids: Sequence[bytes]) -> list[dict[bytes, bytes]]:
        return self._link.read(lambda pipe: [pipe.hgetall(JOB + job_id.decode()) for job_id in ids])


@dataclass(frozen=True, slots=True)
class _About:
    """Where a catalog stands: which domain of that name, its generation, how many rows."""

    born: bytes
    generation: int
    rows: int


_PLAIN = 3
"""Fields of an item without a picture; one with a picture has its digest behind them."""


class _GoneMeanwhile(Exception):
    pass


class _Reading:
    """Reads a catalog page by page; what changes meanwhile is read again, until a page finds nothing changed.

    Each page is one atomic step: where the catalog stands, what changed since the page before, and the page.
    """

    def __init__(self, link: Link, domain: str) -> None:
        self._link, self._domain = link, domain
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._popularity: list[float] = []
        self._images: list[str] = []

    def finish(self) -> CatalogRows | None:
        """Return the catalog, None to begin anew: more changed than the log keeps, or it is another domain now.

        Raises:
            _GoneMeanwhile: there is no such domain.
        """
        about, _, _ = self._page(None, [])
        wanted = deque([range(about.rows)])
        while True:
            page = _take(wanted)
            seen, changes, items = self._page(about.generation, page)
            if seen.born != about.born or len(changes) != seen.generation - about.generation:
                return None
            for row, item in zip(chain(*page), items, strict=True):
                self._put(row, item)
            if changes:
                again = {int(row) for change in changes for row in change[b"changed"].split(b",") if row}
                wanted.extend(range(row, row + 1) for row in sorted(again) if row < about.rows)
                wanted.append(range(about.rows, seen.rows))
                about = seen
            elif not wanted:
                return CatalogRows(about.generation, self._ids, self._texts, self._popularity, self._images)

    def _page(self, since: int | None, runs: Sequence[range]) -> tuple[_About, list[dict[bytes, bytes]], list[Any]]:
        _, items, _, log = _catalog(self._domain)
        rows = [edge for run in runs if run for edge in (run[0], run[-1])]

        def ask(pipe: Any) -> None:
            pipe.hmget(_domain(self._domain), "born", "generation", "rows")
            pipe.xrange(log, LAST if since is None else f"({since}", "+")
            if rows:
                pipe.eval(scripts.READ_ITEMS, 1, items, *rows)

        about, changes, *found = self._link.read(ask)
        if about[0] is None:
            raise _GoneMeanwhile
        there = _About(about[0], int(about[1]), int(about[2]))
        return there, [change for _, change in changes], json.loads(found[0]) if found else []

    def _put(self, row: int, item: Sequence[Any]) -> None:
        text, popularity, image = item[1], item[2], item[3] if len(item) > _PLAIN else ""
        if row == len(self._ids):
            self._ids.append(item[0])
            self._texts.append(text)
            self._popularity.append(popularity)
            self._images.append(image)
        else:  # its id stays
            self._texts[row], self._popularity[row], self._images[row] = text, popularity, image


def _take(wanted: deque[range]) -> list[range]:
    """Take a page of rows off the front."""
    page, room = [], PAGE
    while wanted and room:
        run = wanted.popleft()
        page.append(run[:room])
        if len(run) > room:
            wanted.appendleft(run[room:])
        room -= len(page[-1])
    return page


def _check_server(link: Link) -> tuple[str, list[str]]:
    """Return the server's version and what is wrong with its settings.

    Raises:
        StateError: it is too old, or would throw items away.
    """
    info: dict[str, Any] = link.plain(lambda client: client.info())
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise StateError(f"{link.shown} is Redis {version}, expected 7.0 or later: upgrade it")
    if info.get("role") == "slave":
        raise StateError(f"{link.shown} is a replica, which takes no writes: name its primary in REDIS_URL")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys") and info.get("maxmemory"):
        raise StateError(
            f"{link.shown} has maxmemory-policy {policy}: it would throw items away when it is full. "
            "Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in its configuration)"
        )
    warnings = [] if policy == "noeviction" else [f"{link.shown} has maxmemory-policy {policy}: set it to noeviction"]
    if not info.get("aof_enabled"):
        warnings.append(f"{link.shown} has appendonly off: what it acknowledged is lost when it stops. Set it to yes")
    elif _synced(link) not in (None, "always"):
        warnings.append(f"{link.shown} does not have appendfsync always: a crash may lose its last second")
    name = str(info.get("server_name", "redis"))
    return f"{name} {info.get(f'{name}_version', version)}", warnings


def _synced(link: Link) -> str | None:
    """When Redis syncs its file; None where it does not tell, as hosted ones do not."""
    try:
        found: dict[str, str] = link.plain(lambda client: client.config_get("appendfsync"))
    except StateUnavailable:
        return None
    return found.get("appendfsync")


def _agree(link: Link, folder: Path, known: Collection[str]) -> str:
    """Return the epoch on which Redis and the data folder agree; an empty Redis gets one where nothing is known.

    Raises:
        StateError: they do not belong together.
    """
    file = folder / FILE
    remembered = file.read_text("utf-8").strip() if file.exists() else ""
    fresh = remembered == ANY or not (remembered or known)
    begin = uuid.uuid4().hex if fresh else ""
    answer = link.plain(lambda client: client.register_script(scripts.OPEN)([SCHEMA_KEY, EPOCH], [SCHEMA, begin]))
    schema, epoch = ((value or b"").decode() for value in answer)
    if schema not in ("", SCHEMA):
        raise StateError(f"{link.shown} has schema {schema}, this version of swaprec has {SCHEMA}: upgrade swaprec")
    if not epoch or not (fresh or epoch == remembered):
        raise StateError(_strangers(link.shown, file, epoch, remembered, known))
    if remembered != epoch:
        write_beside(file, epoch.encode())
    return epoch


def _strangers(name: str, file: Path, epoch: str, remembered: str, known: Collection[str]) -> str:
    found = "is empty" if not epoch else f"belongs to another data folder (its epoch is {epoch})"
    has = f"was used with epoch {remembered}" if remembered else "was not used with Redis yet"
    domains = f" and knows the domains {', '.join(sorted(known))}" if known else ""
    return (
        f"{name} {found}, while the data folder {file.parent} {has}{domains}: it is not served, its catalogs would "
        f"be missing. Bring back the Redis that has them, or correct REDIS_URL or SWAPREC_DATA; to go on with this "
        f"one all the same, write the word {ANY} into {file}"
    )


def _domain(name: str) -> str:
    return f"{ROOT}domain:{name}"


def _probes(name: str) -> str:
    return f"{ROOT}probes:{name}"


def _catalog(name: str) -> tuple[str, str, str, str]:
    """Keys of a catalog: row by id, item by row, metadata by row, log of changes."""
    return f"{ROOT}rows:{name}", f"{ROOT}items:{name}", f"{ROOT}metadata:{name}", f"{ROOT}changes:{name}"


def _written(item: Item) -> tuple[str, str, str]:
    """Return id, item and metadata as they are stored: equal items are equal text."""
    fields = [item.item_id, item.text, float(item.popularity), *([item.image] if item.image else [])]
    return (
        item.item_id,
        json.dumps(fields, ensure_ascii=False),
        json.dumps(item.metadata, sort_keys=True, ensure_ascii=False),
    )


def _item(stored: bytes, metadata: bytes | None) -> Item:
    item_id, text, popularity, *image = json.loads(stored)
    return Item(item_id, text, popularity, json.loads(metadata or b"{}"), image[0] if image else "")


def _pages(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + PAGE] for start in range(0, len(values), PAGE))


def _fields(values: dict[str, Any]) -> Iterable[Value]:
    return [text for name, value in values.items() for text in (name, json.dumps(value))]


def _job(stored: dict[bytes, bytes]) -> Job:
    return Job(**{field.name: json.loads(stored[field.name.encode()]) for field in fields(Job)})
