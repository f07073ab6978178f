"""Jobs in Redis, and who holds them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from adapters_store.clock import now
from service.errors import JobNotFound, JobTaken, RequestConflict, StateUnavailable
from service.state import ENDED, RETAINED_JOBS, JobRecord
from service.state.redis import job_scripts as scripts
from service.state.redis import keys
from service.state.redis.link import Link, Value
from service.state.redis.scripts import MISSING

PAGE_JOBS = 2000


def create(
    link: Link, kind: str, domain: str, detail: dict[str, Any], incarnation: str
) -> JobRecord | None:
    """Store a queued job, None where the domain is another incarnation than the given one.

    Where it fails, it is not left to run one day: it is taken back once Redis answers.
    """
    job = JobRecord(uuid.uuid4().hex, kind, domain, detail, created_at=now(), updated_at=now())
    places = [
        keys.JOBS,
        keys.LINE + domain,
        keys.OPEN_JOBS,
        keys.JOB_COUNT,
        keys.JOB + job.id,
        keys.record(domain),
    ]
    about = (job.id, domain, RETAINED_JOBS, keys.JOB, keys.LINE, incarnation)
    try:
        reply = link.write(scripts.CREATE, places, *about, *_written(asdict(job)))
    except StateUnavailable:
        link.take_back(job.id)
        raise
    return None if reply == MISSING else job


def update(link: Link, job_id: str, token: int | None, changes: dict[str, Any]) -> JobRecord:
    """Change fields."""
    status = changes.get("status")
    values = (
        "" if token is None else token,
        status if status in ENDED else "",
        *_changes(**changes),
    )
    return _write(link, scripts.UPDATE, job_id, token, *values)


def claim(link: Link, owner: str, lease_s: float) -> JobRecord | None:
    """Take the next job that nobody holds."""
    [count] = link.read(lambda pipe: pipe.zcard(keys.OPEN_JOBS))
    if not count:
        return None
    places = [keys.OPEN_JOBS, keys.CLAIMS, keys.CLAIM_COUNT]
    found = link.write(
        scripts.CLAIM, places, lease_s, keys.JOB, *_changes(status="running", owner=owner)
    )
    return None if found == scripts.NONE else get(link, found.decode())


def renew(link: Link, job_id: str, token: int, lease_s: float) -> JobRecord:
    """Let a lease end later."""
    return _write(link, scripts.RENEW, job_id, token, token, lease_s)


def release(link: Link, job_id: str, token: int) -> JobRecord:
    """Queue a job again, without owner and token."""
    return _write(
        link, scripts.RELEASE, job_id, token, token, *_changes(status="queued", owner="", token=0)
    )


def cancel(link: Link, job_id: str) -> JobRecord:
    """End a queued job, or mark a running one."""
    ends = _changes(status="cancelled")
    return _write(link, scripts.CANCEL, job_id, None, len(ends), *ends, *_changes(cancelling=True))


def holds(link: Link, domain: str, token: int) -> bool:
    """Whether a token's claim is alive."""
    [held] = link.read(
        lambda pipe: pipe.eval(scripts.HOLDS, 1, keys.CLAIMS, domain, token, keys.JOB)
    )
    return bool(held)


def get(link: Link, job_id: str) -> JobRecord:
    """Return a job; raises JobNotFound."""
    [found] = link.read(lambda pipe: pipe.hgetall(keys.JOB + job_id))
    if not found:
        raise JobNotFound(f"job {job_id!r} does not exist; GET /jobs lists those that do")
    return _job(found)


def newest(link: Link, domain: str | None, limit: int) -> list[JobRecord]:
    """Return jobs, newest first."""
    line = keys.JOBS if domain is None else keys.LINE + domain
    [ids] = link.read(lambda pipe: pipe.zrevrange(line, 0, limit - 1))
    return _all(link, ids)


def unended(link: Link) -> list[JobRecord]:
    """Return the jobs that have not ended, oldest first."""
    [ids] = link.read(lambda pipe: pipe.zrange(keys.OPEN_JOBS, 0, -1))
    return [job for job in _all(link, ids) if not job.ended]


def count_unended(link: Link, domain: str) -> int:
    """Count the jobs of a domain that have not ended."""
    [count] = link.read(lambda pipe: pipe.zintercard(2, [keys.LINE + domain, keys.OPEN_JOBS]))
    return int(count)


def _all(link: Link, ids: Sequence[bytes]) -> list[JobRecord]:
    found = [
        job
        for start in range(0, len(ids), PAGE_JOBS)
        for job in _page(link, ids[start : start + PAGE_JOBS])
    ]
    return [_job(one) for one in found if one]  # one of a domain deleted in between is empty


def _page(link: Link, ids: Sequence[bytes]) -> list[dict[bytes, bytes]]:
    return link.read(lambda pipe: [pipe.hgetall(keys.JOB + job_id.decode()) for job_id in ids])


def _write(link: Link, script: str, job_id: str, token: int | None, *values: Value) -> JobRecord:
    answer = link.write(script, [keys.JOB + job_id, keys.OPEN_JOBS], job_id, *values)
    if answer == MISSING:
        raise JobNotFound(f"job {job_id!r} does not exist")
    if answer == scripts.TAKEN:
        raise JobTaken(job_id, token or 0)
    job = get(link, job_id)
    if answer == scripts.ENDED:
        raise RequestConflict(f"job {job_id!r} has ended: {job.status}")
    return job


def _changes(**values: Any) -> list[Value]:
    return _written({**values, "updated_at": now()})


def _written(values: dict[str, Any]) -> list[Value]:
    return [text for name, value in values.items() for text in (name, json.dumps(value))]


def _job(stored: dict[bytes, bytes]) -> JobRecord:
    names = (field.name for field in fields(JobRecord))
    return JobRecord(
        **{name: json.loads(stored[name.encode()]) for name in names if name.encode() in stored}
    )
