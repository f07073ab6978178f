"""Names of everything that is kept in Redis."""

from __future__ import annotations

ROOT = "swaprec:{state}:"  # the braces keep all keys together where keys are spread over servers
EPOCH = f"{ROOT}epoch"
SCHEMA = f"{ROOT}schema"
FEED = f"{ROOT}feed"
FEED_COUNT = f"{ROOT}feed-count"
DOMAINS = f"{ROOT}domains"
JOBS = f"{ROOT}jobs"
OPEN_JOBS = f"{ROOT}jobs-open"
JOB_COUNT = f"{ROOT}job-count"
CLAIMS = f"{ROOT}claims"
CLAIM_COUNT = f"{ROOT}claim-count"
JOB = f"{ROOT}job:"
LINE = f"{ROOT}jobs:"
"""Prefixes of a job and of a domain's line of jobs."""


def record(domain: str) -> str:
    """Key of what a domain is: backbone, title, counters."""
    return f"{ROOT}domain:{domain}"


def probes(domain: str) -> str:
    """Key of a domain's probes."""
    return f"{ROOT}probes:{domain}"


def catalog(domain: str) -> tuple[str, str, str, str, str, str]:
    """Keys of a catalog: row by id, item by row,
    metadata by row, log of changes, when ids were deleted, and hidden.
    """
    rows = f"{ROOT}rows:{domain}"
    items = f"{ROOT}items:{domain}"
    metadata = f"{ROOT}metadata:{domain}"
    return (
        rows,
        items,
        metadata,
        f"{ROOT}changes:{domain}",
        f"{ROOT}deleted:{domain}",
        f"{ROOT}hidden:{domain}",
    )
