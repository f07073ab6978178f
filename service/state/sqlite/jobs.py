"""Jobs in SQLite, and who holds them:
what each statement does inside a transaction that its caller holds.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from adapters_store.clock import now
from service.errors import JobNotFound, JobTaken, RequestConflict
from service.state import ENDED, RETAINED_JOBS, JobRecord
from service.state.sqlite.feed import append, count_up

_JSON = ("detail", "result", "error")
_NAMES = [field.name for field in fields(JobRecord)]
_FIELDS = ", ".join(_NAMES)
_OPEN = "status IN ('queued', 'running')"  # as the index jobs_open has it


def create(
    db: sqlite3.Connection,
    kind: str,
    domain: str,
    detail: dict[str, Any],
    result: dict[str, Any] | None,
) -> JobRecord:
    """Store a job, with a result one that has ended;
    the oldest of the domain that ended are removed.
    """
    status = "queued" if result is None else "succeeded"
    job = JobRecord(
        uuid.uuid4().hex,
        kind,
        domain,
        detail,
        status,
        result=result,
        created_at=now(),
        updated_at=now(),
    )
    values: dict[str, Any] = {
        "detail": json.dumps(detail),
        "result": None if result is None else json.dumps(result),
    }
    values |= {"stage": "", "done": 0, "total": 0}
    values |= {
        name: getattr(job, name)
        for name in ("id", "kind", "domain", "status", "created_at", "updated_at")
    }
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - our own field names
    old = "SELECT number FROM jobs WHERE domain = ? ORDER BY number DESC LIMIT -1 OFFSET ?"
    db.execute(f"DELETE FROM jobs WHERE NOT {_OPEN} AND number IN ({old})", (domain, RETAINED_JOBS))  # noqa: S608 - constants
    append(db, "job", domain)
    return job


def get(db: sqlite3.Connection, job_id: str) -> JobRecord:
    """Return a job; raises JobNotFound."""
    row = db.execute(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608 - constants
    if row is None:
        raise JobNotFound(f"job {job_id!r} does not exist; GET /jobs lists those that do")
    return _job(row)


def newest(db: sqlite3.Connection, domain: str | None, limit: int) -> list[JobRecord]:
    """Return jobs, newest first."""
    where, values = ("WHERE domain = ?", (domain, limit)) if domain is not None else ("", (limit,))
    query = f"SELECT {_FIELDS} FROM jobs {where} ORDER BY number DESC LIMIT ?"  # noqa: S608 - constants
    return [_job(row) for row in db.execute(query, values)]


def unended(db: sqlite3.Connection) -> list[JobRecord]:
    """Return the jobs that have not ended, oldest first."""
    query = f"SELECT {_FIELDS} FROM jobs WHERE {_OPEN} ORDER BY number"  # noqa: S608 - constants
    return [_job(row) for row in db.execute(query)]


def count_unended(db: sqlite3.Connection, domain: str) -> int:
    """Count the jobs of a domain that have not ended."""
    query = f"SELECT count(*) FROM jobs WHERE domain = ? AND {_OPEN}"  # noqa: S608 - constants
    return int(db.execute(query, (domain,)).fetchone()[0])


def update(
    db: sqlite3.Connection, job_id: str, changes: dict[str, Any], token: int | None = None
) -> JobRecord:
    """Change fields; the job's end is announced, and ends its lease."""
    job = get(db, job_id)
    if token is not None and token != job.token:
        raise JobTaken(job_id, token)
    ends = changes.get("status") in ENDED
    values = changes | {
        name: json.dumps(changes[name]) for name in _JSON if changes.get(name) is not None
    }
    values |= {"updated_at": now()} | ({"lease": 0.0} if ends else {})
    assigned = ", ".join(f"{name} = ?" for name in values)
    db.execute(f"UPDATE jobs SET {assigned} WHERE id = ?", (*values.values(), job_id))  # noqa: S608 - names of fields, given in code
    if ends and not job.ended:
        append(db, "job", job.domain)
    return get(db, job_id)


def claimable(db: sqlite3.Connection) -> str | None:
    """Return the next job to claim: of the first jobs of all domains that nobody holds, the longest
    unserved domain's.

    The largest token among a domain's jobs says when it was served last.
    """
    first = f"SELECT min(number) AS number FROM jobs WHERE {_OPEN} GROUP BY domain"  # noqa: S608 - constants
    query = f"""SELECT jobs.id FROM ({first}) JOIN jobs USING (number) WHERE jobs.lease <= ?
      ORDER BY (SELECT max(token) FROM jobs AS served WHERE served.domain = jobs.domain), number
      LIMIT 1"""  # noqa: S608 - constants
    found = db.execute(query, (time.time(),)).fetchone()
    return None if found is None else str(found[0])


def claim(db: sqlite3.Connection, owner: str, lease_s: float) -> JobRecord | None:
    """Set the next job running in its owner's name."""
    job_id = claimable(db)
    if job_id is None:
        return None
    changes = {
        "status": "running",
        "owner": owner,
        "token": count_up(db, "token"),
        "lease": time.time() + lease_s,
    }
    return update(db, job_id, changes)


def renew(db: sqlite3.Connection, job_id: str, token: int, lease_s: float) -> JobRecord:
    """Let a lease end later."""
    _held(db, job_id, token)
    db.execute("UPDATE jobs SET lease = ? WHERE id = ?", (time.time() + lease_s, job_id))
    return get(db, job_id)


def release(db: sqlite3.Connection, job_id: str, token: int) -> JobRecord:
    """Queue a job again, without owner and token."""
    job = _held(db, job_id, token)
    append(db, "job", job.domain)
    return update(db, job_id, {"status": "queued", "owner": "", "token": 0, "lease": 0.0})


def cancel(db: sqlite3.Connection, job_id: str) -> JobRecord:
    """End a queued job, or mark a running one."""
    job = get(db, job_id)
    if job.ended:
        raise RequestConflict(f"job {job_id!r} has ended: {job.status}")
    if job.status == "queued":
        return update(db, job_id, {"status": "cancelled"})
    if not job.cancelling:
        append(db, "job", job.domain)
    return update(db, job_id, {"cancelling": True})


def holds(db: sqlite3.Connection, domain: str, token: int) -> bool:
    """Whether a token's claim is alive."""
    query = "SELECT 1 FROM jobs WHERE domain = ? AND token = ? AND status = 'running' AND lease > ?"
    return db.execute(query, (domain, token, time.time())).fetchone() is not None


def _held(db: sqlite3.Connection, job_id: str, token: int) -> JobRecord:
    job = get(db, job_id)
    if job.token != token or job.status != "running":
        raise JobTaken(job_id, token)
    return job


def _job(row: Sequence[Any]) -> JobRecord:
    values = dict(zip(_NAMES, row, strict=True))
    values |= {name: json.loads(values[name]) for name in _JSON if values[name] is not None}
    return JobRecord(**values | {"cancelling": bool(values["cancelling"])})
