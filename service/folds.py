"""Bases built ahead: a catalog at one generation with the vectors of every version that may be asked for.

What takes long is done here, as a job, by one process for all: embedding and, for large catalogs, tuning an index. The
others map the files. A base is never changed; the next one replaces it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters_store.store import Store
from service.bases import Bases, BaseWriter
from service.builder import Builder
from service.jobs import Jobs, Progress
from service.live import Version, version_name
from service.reconcile import DAMAGE, Reconciler
from service.snapshots import Snapshots
from service.state import DomainRecord, Job, State
from service.vectors import VectorFiles
from service.versions import Prepared, Versions
from transrec.model import encode_users

KIND = "fold"
QUERIES, LEAST_QUERIES = 256, 50
PREPARED = 8
"""So many versions have vectors in a base: beside those that answer, the newest ones that were active before."""

Floats = NDArray[np.float32]

_log = logging.getLogger("swaprec")


class Folds:
    """Builds bases."""

    def __init__(
        self,
        state: State,
        store: Store,
        versions: Versions,
        bases: Bases,
        vectors: VectorFiles,
        snapshots: Snapshots,
        reconciler: Reconciler,
        jobs: Jobs,
        builder: Builder,
        least_for_index: int,
    ) -> None:
        self._builder, self._least_for_index = builder, least_for_index
        self._state, self._store = state, store
        self._versions, self._bases, self._vectors = versions, bases, vectors
        self._snapshots = snapshots
        self._reconciler, self._jobs = reconciler, jobs
        jobs.kinds[KIND] = self._fold
        reconciler.ask_for_build = self.ask

    def ask(self, domain: str) -> Job | None:
        """Queue a fold of a domain, unless one waits or an activation will do it."""
        waiting = [job for job in self._state.jobs(domain) if job.kind == KIND and not job.ended]
        return None if waiting else self._jobs.submit(KIND, domain, {})

    def build(self, record: DomainRecord, first: Version, progress: Progress) -> None:
        """Write a base of the catalog as it is now, and make it known.

        Args:
            record: the domain.
            first: a version that must be in it; those that answer, and what was live before, are too if they can be.
            progress: of the job.

        Raises:
            What `Versions.load` raises of `first`.
        """
        rows = self._state.catalog(record.name)
        contents = self._versions.intake(record.name).contents(rows.texts, rows.images)
        backbone = self._versions.engine(record).backbone
        with self._bases.writing(record, rows, progress.job.token, backbone.config.width) as base:
            ordered = [contents[place] for place in base.order]
            wanted = self._wanted(record, first)
            for prepared in wanted:
                told = progress.stage("embed")
                out = base.vectors(prepared.digest, prepared.dtype)
                self._vectors.complete(record.name, prepared, ordered, backbone, told, out)
            progress.stage("index")
            self._add_indexes(base, record, wanted)
            progress.fence()
        self._state.announce("items", record.name)
        self._bases.keep(record)
        if self._snapshots.generation(record.name) != rows.generation:
            progress.patiently(lambda: self._snapshots.take(self._state, record, rows.generation))

    def _add_indexes(self, base: BaseWriter, record: DomainRecord, wanted: Sequence[Prepared]) -> None:
        """Build the index of every version of a large catalog."""
        if not 0 < self._least_for_index <= base.recommendable:
            return
        for prepared in wanted:
            path = base.vectors_path(prepared.digest, prepared.dtype)
            queries, source = self._queries(base, record, prepared, np.load(path, mmap_mode="r"))
            out = base.index_path(prepared.digest, prepared.dtype)
            tuned = self._builder.index(path, base.recommendable, queries, source, out)
            if tuned is not None:
                base.has_index(prepared.digest, prepared.dtype, tuned)
            name = version_name(prepared.version)
            _log.info("%s@%s: index %s", record.name, name, "exact" if tuned is None else tuned)

    def _queries(
        self, base: BaseWriter, record: DomainRecord, prepared: Prepared, matrix: Floats
    ) -> tuple[Floats, str]:
        """Return vectors to tune an index on, and what they are: users of the domain's probes, or its items."""
        ids, window = base.ids(), self._versions.engine(record).backbone.config.max_history
        histories = []
        for probe in self._state.probes(record.name)[:QUERIES]:
            rows = ids.rows(probe.history)
            known = [rows[item_id] for item_id in probe.history if item_id in rows]
            if known:
                histories.append(np.array(known[-window:]))
        if len(histories) >= LEAST_QUERIES:
            encoder = self._versions.engine(record).backbone.model.user_encoder
            side = None if prepared.adapter is None else prepared.adapter.user
            return encode_users(encoder, histories, matrix, side), "probes"
        chosen = np.random.default_rng(0).choice(base.recommendable, min(QUERIES, base.recommendable), replace=False)
        return np.asarray(matrix[np.sort(chosen)]), "items"

    def _wanted(self, record: DomainRecord, first: Version) -> list[Prepared]:
        found = [self._versions.load(record, first)]
        for version in self._ahead(record.name, first):
            try:
                found.append(self._versions.load(record, version))
            except DAMAGE:
                _log.exception("%s@%s is left out of the next base", record.name, version_name(version))
        return found

    def _ahead(self, domain: str, first: Version) -> Sequence[Version]:
        stands = self._store.standing(domain)
        lately = [one.version for one in reversed(self._store.activations(domain))]
        kept = {card.version for card in self._store.versions(domain)} | {None}
        wanted = dict.fromkeys([*stands.in_use, *lately])
        return [version for version in wanted if version in kept and version != first][: PREPARED - 1]

    def _fold(self, job: Job, progress: Progress) -> dict[str, Any]:
        record = self._state.get_domain(job.domain)
        self.build(record, self._store.live(job.domain), progress)
        standing = progress.patiently(lambda: self._reconciler.reconcile(job.domain))
        return {"items": len(standing.live.items) if standing is not None else 0}
