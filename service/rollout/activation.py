"""Making versions live: load, embed, index, verify, gate aside; then one record in the store and
one assignment.

What takes long happens before the flip, beside what answers. The store's log is written before the
flip is seen by anyone, so that a restart answers from the version that was acknowledged; the feed
tells the other processes, which map what was built here. A version whose vectors lie ready is a
flip.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapters_store.store import Store
from service.errors import DomainNotFound, RequestConflict
from service.jobs import Jobs, Progress
from service.live.opening import DAMAGE_ERRORS, NotBuilt
from service.live.reconcile import Reconciler
from service.live.table import Deployment, LiveDomain, LiveTable
from service.rollout.candidates import Candidates
from service.rollout.gate import check
from service.rollout.gate_runner import GateRunner
from service.state import DomainRecord, JobRecord, State
from service.state.fence import fence
from service.version import NONE, Version, version_name
from service.wire.requests import ActivateRequest

KIND = "activate"
MAX_PINNED = 16
"""Each pinned version keeps vectors of the whole catalog,
and an adapter, in the memory that all domains share.
"""

_log = logging.getLogger("swaprec")


@dataclass(frozen=True, slots=True)
class GoneBack:
    """What is live after a rollback; `skipped` are deleted versions that it went past."""

    live: LiveDomain
    skipped: list[int]


class Activator:
    """Activates, takes back, promotes, pins."""

    def __init__(
        self,
        state: State,
        store: Store,
        live: LiveTable,
        reconciler: Reconciler,
        candidates: Candidates,
        gate_runner: GateRunner,
        jobs: Jobs,
    ) -> None:
        self._state = state
        self._store = store
        self._live = live
        self._reconciler = reconciler
        self._candidates = candidates
        self._gate_runner = gate_runner
        self._jobs = jobs

    def submit(
        self, domain: str, version: Version, wanted: ActivateRequest | None = None
    ) -> JobRecord:
        """Activate a version, or `none`: at once where it was live before and its vectors lie
        ready, else as a job.

        Returns:
            The job; one that has ended, where it was a flip.

        Raises:
            VersionNotFound, DomainNotFound, RequestConflict: a canary of what is live;
                TooManyAtOnce: too many
            of its jobs are open. Nothing was changed.
        """
        record = self._state.get_domain(domain)
        wanted = wanted or ActivateRequest()
        if version is not None:
            self._store.card(domain, version)
        if wanted.canary_percent and self._store.live(domain) == version:
            raise RequestConflict(
                f"{domain} answers everybody from {version_name(version)}: it cannot be its own"
                " canary"
            )
        detail = {"version": version_name(version), **wanted.model_dump()}
        candidate = self._find_ready(record, version, wanted)
        if candidate is None:
            self._jobs.check_room(domain)
            return self._jobs.submit(KIND, domain, detail, record.incarnation)
        result = self._flip(candidate, wanted, fence(self._state, record)) | {"gate": None}
        return self._state.create_job(KIND, domain, detail, result, record.incarnation)

    def _find_ready(
        self, record: DomainRecord, version: Version, wanted: ActivateRequest
    ) -> LiveDomain | None:
        """Return the value of a version that can answer now;
        None where a job must come before.
        """
        waits = any(
            job.kind == KIND and job.domain == record.name for job in self._state.open_jobs()
        )
        if waits or wanted.gate is not None:
            return None
        return self._candidates.find_ready(record, version)

    def rollback(self, domain: str) -> GoneBack:
        """End a canary or, without one, go back to the version before; at once, since both are
        warm.

        Further rollbacks go further back.

        Raises:
            NothingBefore, RequestConflict: there is nothing to go back to; DomainLoading: it does
                not answer yet.
        """
        # Where state does not answer, nothing is written down.
        record = self._state.get_domain(domain)
        self._live.get(domain)  # nobody waits for a domain that does not answer yet
        with self._reconciler.turn(domain):
            self._check_before(record, self._live.get(domain))
            done = self._store.rollback(domain, fence(self._state, record))
            live = self._publish(domain).live
        passed = f", without {_join(done.skipped)}, which was deleted" if done.skipped else ""
        _log.info("%s: rolled back; %s answers%s", domain, version_name(live.version), passed)
        return GoneBack(live, done.skipped)

    def _check_before(self, record: DomainRecord, deployment: Deployment) -> None:
        """Raise RequestConflict where what a rollback returns to cannot answer at once."""
        if self._store.current(record.name).percent:
            return
        for version in self._store.before(record.name)[0][:1]:
            try:
                if all(value.version != version for value in deployment.warm):
                    self._reconciler.open_candidate(record, version)
            except (NotBuilt, *DAMAGE_ERRORS) as error:
                raise RequestConflict(
                    f"{record.name} cannot go back to version {version_name(version)}, which has no"
                    " vectors in memory: activate it, or another version"
                ) from error

    def promote(self, domain: str, version: int) -> Deployment:
        """Make the canary live for everybody.

        Raises:
            RequestConflict: this version is no canary; DomainLoading.
        """
        record = self._state.get_domain(domain)
        with self._reconciler.turn(domain):
            canary = self._live.get(domain).canary
            if canary is None or canary.version != version:
                there = (
                    f"its canary is {version_name(canary.version)}"
                    if canary is not None
                    else "it has no canary"
                )
                raise RequestConflict(f"{domain}@{version} cannot be promoted: {there}")
            self._store.record_activation(domain, version, "promote", fence(self._state, record))
            return self._publish(domain)

    def pin(self, domain: str, version: int, *, pinned: bool) -> None:
        """Keep a version warm and undeleted from now on, or no longer.

        Raises:
            DomainNotFound, VersionNotFound, OutOfSpace; RequestConflict: too many are pinned.
        """
        record = self._state.get_domain(domain)
        with self._reconciler.turn(domain):
            others = [one for one in self._store.pinned(domain) if one != version]
            if pinned and len(others) >= MAX_PINNED:
                raise RequestConflict(
                    f"{domain} has {len(others)} pinned versions, at most {MAX_PINNED}: unpin one"
                    " first"
                )
            self._store.pin(domain, version, pinned=pinned, fence=fence(self._state, record))
            self._reconciler.reconcile(domain)
            self._state.announce("standing", domain)
        _log.info(
            "%s: version %s is %s", domain, version, "pinned" if pinned else "not pinned any more"
        )

    def end_canary(self, domain: str, digest: str, reason: str) -> None:
        """Take back a canary that does not do well, unless it is over already."""
        try:
            record = self._state.get_domain(domain)
            with self._reconciler.turn(domain):
                # Not what is in memory: the domain may be evicted.
                activation = self._store.current(domain)
                if (
                    not activation.percent
                    or self._candidates.find_digest(record, activation.canary) != digest
                ):
                    return
                _log.warning(
                    "%s: the canary %s ends: %s", domain, version_name(activation.canary), reason
                )
                self._store.record_canary(
                    domain, None, 0, f"canary ended: {reason}", fence(self._state, record)
                )
                self._reconciler.reconcile(domain)
                self._state.announce("standing", domain)
        except DomainNotFound:
            return

    def publish_new_domain(self, record: DomainRecord) -> None:
        """Make a new domain answer: an empty catalog under `none`.

        One that is restored, or broken, stays as it is.
        """
        if not self._live.has(record.name):
            self._reconciler.reconcile(record.name)

    def run_job(self, job: JobRecord, progress: Progress) -> dict[str, Any]:
        """Build, verify and gate a version, then make it live; a failure leaves what is live."""
        domain = job.domain
        named = job.detail["version"]
        version: Version = None if named == NONE else int(named)
        wanted = ActivateRequest.model_validate(
            {key: job.detail[key] for key in ActivateRequest.model_fields}
        )
        record = self._state.get_domain(domain)
        progress.stage("load")
        candidate = self._candidates.build(record, version, progress)
        progress.stage("verify")
        self._candidates.verify(candidate)
        seen = self._pass_gate(candidate, wanted, progress)
        progress.stage("flip")
        return self._flip(candidate, wanted, progress.fence) | {"gate": seen}

    def _flip(
        self, candidate: LiveDomain, wanted: ActivateRequest, fence: Callable[[], None]
    ) -> dict[str, Any]:
        domain = candidate.domain
        version = candidate.version
        share = wanted.canary_percent
        with self._reconciler.turn(domain):
            if share:
                gate = None if wanted.gate is None else wanted.gate.model_dump()
                self._store.record_canary(domain, version, share, "canary", fence, gate)
                _log.info(
                    "%s: version %s is a canary for %d %% of the users",
                    domain,
                    version_name(version),
                    share,
                )
            else:
                self._store.record_activation(domain, version, "activate", fence)
            deployment = self._publish(domain, candidate)
        return {
            "version": version_name(version),
            "index_generation": deployment.live.index_generation,
        }

    def _pass_gate(
        self, candidate: LiveDomain, wanted: ActivateRequest, progress: Progress
    ) -> dict[str, Any] | None:
        if wanted.gate is None:
            return None
        progress.stage("gate")
        verdict = self._gate_runner.verdict(wanted.gate, candidate, progress)
        check(candidate.domain, verdict)
        return verdict.figures

    def _publish(self, domain: str, candidate: LiveDomain | None = None) -> Deployment:
        """Publish what was recorded, and announce it to the others."""
        deployment = self._reconciler.reconcile(domain, candidate)
        self._state.announce("standing", domain)
        return deployment if deployment is not None else self._live.get(domain)


def _join(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))
