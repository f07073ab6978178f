"""The gate, asked from a job's thread: before a version goes live, and again while it is a canary.

What a gate says depends on the probes, the catalog and the two versions. So a canary that had to
pass one is judged again whenever its domain's probes were replaced or its catalog was compacted,
and taken back where it misses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from adapters_store.store import Store
from service.errors import DomainLoading, RequestConflict
from service.jobs import Jobs, Progress, Stopped
from service.live.table import Deployment, LiveDomain, LiveTable
from service.recommend.recommend import Reader
from service.rollout.gate import Verdict, run_gate
from service.state import JobRecord, Probes
from service.version import version_name
from service.wire.requests import GateBody

KIND = "judge"
GATE_S = 1800.0
CHECK_EVERY_S = 0.2

End = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class EventLoopReader:
    """The event loop that answers requests, and its reader: a gate queries like a request."""

    loop: asyncio.AbstractEventLoop
    reader: Reader


class GateRunner:
    """Runs gates."""

    def __init__(self, state: Probes, live: LiveTable) -> None:
        self._state = state
        self._live = live
        self.loop_reader: EventLoopReader | None = None

    def verdict(self, gate: GateBody, candidate: LiveDomain, progress: Progress) -> Verdict:
        """Ask the domain's probes of a candidate and of what is live; waits, so never on the event
        loop.

        Raises:
            RequestConflict: there are no probes; what `progress.check` raises.
        """
        domain = candidate.domain
        probes = self._state.probes(domain)
        if not probes:
            raise RequestConflict(
                f"{domain} has no probes to gate by: PUT /domains/{domain}/probes"
            )
        if self.loop_reader is None:
            raise RuntimeError("the gate asks as requests do: the service must have started")
        now = self.load_deployment(domain, progress)
        work = run_gate(gate, candidate, now.live, probes, self.loop_reader.reader)
        return waited(asyncio.run_coroutine_threadsafe(work, self.loop_reader.loop), progress)

    def load_deployment(self, domain: str, progress: Progress) -> Deployment:
        """Return the deployment of a domain, loading it; waits while it is being made ready.

        Raises:
            DomainLoading: for too long; what `progress.check` raises.
        """
        until = time.monotonic() + GATE_S
        while (deployment := self._live.load(domain)) is None:
            progress.check()
            if time.monotonic() > until:
                raise DomainLoading(domain, "being made ready")
            time.sleep(CHECK_EVERY_S)
        return deployment


def waited(asked: Future[Verdict], progress: Progress) -> Verdict:
    """Wait for an answer of the event loop as long as the job may go on:
    it may be the loop that stops.
    """
    until = time.monotonic() + GATE_S
    try:
        while True:
            progress.check()
            try:
                return asked.result(CHECK_EVERY_S)
            except TimeoutError:
                if asked.done() or time.monotonic() > until:
                    raise
    except CancelledError:
        raise Stopped from None
    finally:
        asked.cancel()


class CanaryGateRunner:
    """Runs the gates of canaries again, as jobs: one process does it for all.

    Args:
        gate_runner: asks.
        store: knows the current activation of a domain.
        end: takes a canary back: domain, digest, reason.
        jobs: that do it.
    """

    def __init__(self, gate_runner: GateRunner, store: Store, end: End, jobs: Jobs) -> None:
        self._gate_runner = gate_runner
        self._store = store
        self._end = end
        self._jobs = jobs

    def ask(self, domain: str) -> JobRecord | None:
        """Queue the gate of a domain's canary again, if the canary had to pass one."""
        activation = self._store.current(domain)
        if not activation.percent or activation.gate is None:
            return None
        return self._jobs.submit(KIND, domain, {"version": version_name(activation.canary)})

    def run_job(self, job: JobRecord, progress: Progress) -> dict[str, Any]:
        """Run a canary's gate; one that misses it is taken back."""
        progress.stage("gate")
        canary = self._gate_runner.load_deployment(job.domain, progress).canary
        activation = self._store.current(job.domain)
        if canary is None or activation.gate is None or canary.version != activation.canary:
            return {"gate": None, "missed": []}  # it is over
        verdict = self._gate_runner.verdict(
            GateBody.model_validate(activation.gate), canary, progress
        )
        if verdict.missed:
            progress.fence()
            self._end(job.domain, canary.digest, "; ".join(verdict.missed))
        return {"gate": verdict.figures, "missed": verdict.missed}
