"""Work that outlives its request: queued in state, claimed by one process at a time, resumed after
a crash.

Jobs of one domain run one after the other, in the order in which they were asked for: of two
activations the one that was asked for last is live in the end. Jobs of different domains run side
by side, in whichever process claims them. A claim is a lease that is renewed while the work goes
on, and a fencing token: who was overtaken writes nothing.
"""

from service.jobs.intervals import JOB_INTERVALS, JobIntervals
from service.jobs.progress import Cancelled, Progress, Stopped
from service.jobs.runner import MAX_OPEN_JOBS, Jobs

__all__ = [
    "JOB_INTERVALS",
    "MAX_OPEN_JOBS",
    "Cancelled",
    "JobIntervals",
    "Jobs",
    "Progress",
    "Stopped",
]
