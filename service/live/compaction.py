"""Bases built ahead: a catalog at one generation with the vectors of every version that may be
asked for.

What takes long is done here, as a job, by one process for all: embedding and, for large catalogs,
tuning an index. The others map the files. A base is never changed; the next one replaces it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

from adapters_store.errors import OutOfSpace, StoreDamaged
from adapters_store.store import Store
from service.content.sweeps import Sweeps
from service.embedding.base_builder import BaseBuilder
from service.embedding.versions import Prepared, Versions
from service.embedding.worker import VersionFile, WorkerProcess
from service.jobs import Jobs, Progress
from service.live.opening import DAMAGE_ERRORS
from service.live.reconcile import Reconciler
from service.live.table import Deployment
from service.state import DomainRecord, JobRecord
from service.version import Version, version_name

# The kind of compaction jobs in state, on the wire and in metrics.
KIND = "fold"
VERSIONS_PER_BASE = 8
"""Versions with vectors in a base:
all warm ones, and the newest of the others up to this number.
"""

REBUILD_DELAY_S = 60.0
MAX_REBUILD_DELAY_S = 6 * 3600.0
RECENT_JOBS = 20
"""A build that failed is tried again after a minute,
of the same catalog after twice as long each time.
"""
REFUSALS = range(400, 500)
"""Statuses of errors that are about what was built: the same again would fail again."""

_log = logging.getLogger("swaprec")


class Compactor:
    """Merges base and delta of a catalog into a new base.

    `on_compacted` are called with each domain that was. `clock` returns seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        versions: Versions,
        in_process: BaseBuilder,
        in_worker: WorkerProcess,
        reconciler: Reconciler,
        jobs: Jobs,
        sweeps: Sweeps,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = in_process.state
        self.sweeps = sweeps
        self._store = store
        self._versions = versions
        self._in_process = in_process
        self._in_worker = in_worker
        self._reconciler = reconciler
        self._jobs = jobs
        self._clock = clock
        self.on_compacted: list[Callable[[str], object]] = []

    def request(self, domain: str) -> JobRecord | None:
        """Queue a compaction of a domain, unless one waits, or has failed and would again.

        What was refused for what is in it is not built again before the catalog or the live version
        is another.
        """
        if any(job.kind == KIND and job.domain == domain for job in self._state.open_jobs()):
            return None
        wanted = self._describe_input(domain)
        failed = _take_failed(
            [job for job in self._state.jobs(domain, RECENT_JOBS) if job.kind == KIND]
        )
        same = [job for job in failed if job.detail == wanted]
        if same and _was_refused(same[0]):
            self._reconciler.explain(
                domain, f"its catalog cannot be built: {same[0].error and same[0].error['detail']}"
            )
            return None
        if failed and self._get_age(failed[0]) < min(
            MAX_REBUILD_DELAY_S, REBUILD_DELAY_S * 2 ** max(0, len(same) - 1)
        ):
            return None
        try:
            return self._jobs.submit(KIND, domain, wanted)
        except OutOfSpace as error:  # what was deleted must go all the same; it is asked for again
            _log.warning("%s waits for a base: %s", domain, error)
            return None

    def _get_age(self, job: JobRecord) -> float:
        """Return the seconds since a job was changed last."""
        return self._clock() - datetime.fromisoformat(job.updated_at).timestamp()

    def _describe_input(self, domain: str) -> dict[str, Any]:
        """Return what a base would be made of: another one may succeed where this one failed."""
        version = version_name(self._store.live(domain))
        return {"generation": self._state.generation(domain), "version": version}

    def build(self, record: DomainRecord, first: Version, progress: Progress) -> None:
        """Write a base of the catalog as it is now, and make it known.

        Args:
            record: the domain.
            first: a version that must be in it; those that answer, and what was live before, are
                too if they can be.
            progress: of the job.

        Raises:
            What `Versions.load` raises of `first`.
        """
        backbone = self._versions.engine(record).backbone
        token = progress.job.token
        versions = [first, *self._choose_versions(record.name, first)]
        if self._in_worker.takes(self._state.count_items(record.name), backbone):
            files = [
                file
                for version in versions
                if (file := self._describe_version(record, version, first)) is not None
            ]
            self._in_worker.compact(record.name, backbone, files, token, progress.stage)
        else:
            self._in_process.build(
                record, backbone, self._load_versions(record, versions), token, progress.stage
            )
        progress.check()
        self._state.announce("items", record.name)

    def sweep(self, record: DomainRecord) -> None:
        """Remove the vectors of versions that are no more."""

        def wanted() -> list[str]:
            return [*(card.digest for card in self._store.versions(record.name)), record.backbone]

        self._in_process.vectors.sweep(record.name, wanted)

    def _is_compacted(self, record: DomainRecord) -> bool:
        """Whether every version that is kept warm has a
        base of the catalog as it is now that can be opened.
        """
        generation = self._state.generation(record.name)
        return all(
            self._is_built(record, version, generation)
            for version in self._list_needed(record.name)
        )

    def _is_built(self, record: DomainRecord, version: Version, generation: int) -> bool:
        try:
            digest, dtype = self._versions.identify(record, version)
            if version != self._store.live(record.name):
                self._versions.load(record, version)
        except DAMAGE_ERRORS:  # it is left out of bases, too
            return version != self._store.live(record.name)
        found = self._in_process.bases.newest(record, digest, dtype, None)
        return found is not None and found[0].generation == generation

    def _list_needed(self, domain: str) -> list[Version]:
        try:
            in_use = self._store.current(domain).in_use
        except StoreDamaged:  # an activation says anew what is live
            in_use = {}
        return list(dict.fromkeys([*in_use, *self._store.pinned(domain)]))

    def _describe_version(
        self, record: DomainRecord, version: Version, first: Version
    ) -> VersionFile | None:
        """Name a version for another process;
        None where it is damaged and not what this is done for.
        """
        try:
            digest, dtype = self._versions.identify(record, version)
            bundle = None if version is None else self._store.bundle_path(record.name, version)
        except DAMAGE_ERRORS:
            if version == first:
                raise
            return None
        return VersionFile(version, digest, dtype, None if bundle is None else str(bundle))

    def _load_versions(self, record: DomainRecord, versions: Sequence[Version]) -> list[Prepared]:
        found = [self._versions.load(record, versions[0])]
        for version in versions[1:]:
            try:
                found.append(self._versions.load(record, version))
            except DAMAGE_ERRORS:
                _log.exception(
                    "%s@%s is left out of the next base", record.name, version_name(version)
                )
        return found

    def _choose_versions(self, domain: str, first: Version) -> Sequence[Version]:
        lately = [one.version for one in reversed(self._store.activations(domain))]
        needed = self._list_needed(domain)
        wanted = (version for version in [*needed, *lately] if version != first)
        present = (
            version
            for version in dict.fromkeys(wanted)
            if version is None or self._store.has(domain, version)
        )
        return list(islice(present, max(VERSIONS_PER_BASE - 1, len(needed))))

    def compact(self, domain: str, progress: Progress) -> Deployment | None:
        """Build a base of a catalog as it is now, unless there is one, and answer from it.

        Returns:
            The domain's deployment, None where it cannot answer or is evicted.
        """
        record = self._state.get_domain(domain)
        if not self._is_compacted(record):  # two processes may have asked for the same
            self.build(record, self._store.live(domain), progress)
        self.sweep(record)
        self.sweeps.ask()
        deployment: Deployment | None = progress.retry_until_available(
            lambda: self._reconciler.reconcile(domain)
        )
        for callback in self.on_compacted:
            callback(domain)
        return deployment

    def run_job(self, job: JobRecord, progress: Progress) -> dict[str, Any]:
        """Compact the domain of a job; returns how many items it has then."""
        deployment = self.compact(job.domain, progress)
        return {"items": len(deployment.live.items) if deployment is not None else 0}


def _take_failed(jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """Return the newest jobs that failed,
    until one that did not; newest first, as they are given.
    """
    return list(takewhile(lambda job: job.status == "failed", jobs))


def _was_refused(job: JobRecord) -> bool:
    return job.error is not None and job.error.get("status") in REFUSALS
