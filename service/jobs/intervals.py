"""How often a process looks for jobs and renews its leases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobIntervals:
    """Seconds.

    `poll_s`: between two looks for jobs that nobody announced. `lease_s`: how long a claim holds,
    and `renewal_s` between two renewals. `write_s`: between two reports of progress. `retry_s`:
    between two attempts while state is unavailable.
    """

    poll_s: float = 1.0
    lease_s: float = 6.0
    renewal_s: float = 1.5
    write_s: float = 0.2
    retry_s: float = 0.5


JOB_INTERVALS = JobIntervals()
