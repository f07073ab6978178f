"""Making versions live: load, embed, index, verify aside; then one record in the store and one assignment.

Three rules keep a domain consistent. What takes long (embedding) happens outside the domain's flip lock, against a
snapshot; under the lock only what changed meanwhile is caught up. The store's activation log is written before the
flip is seen by anyone, so that a restart answers from the version that was acknowledged. And nothing waits for a lock
on behalf of a domain that does not answer yet.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters_store.bundle import Bundle, check_bundle
from adapters_store.errors import BundleError, Problem, StoreError, VersionNotFound
from adapters_store.store import Store
from service.blobs import Blobs
from service.catalog import Catalog
from service.engine import Engine, History
from service.errors import BackboneNotFound, Conflict, ServiceError, StateUnavailable
from service.index import ExactIndex
from service.intake import Intake
from service.jobs import Jobs, Progress
from service.live import NONE, LiveDomain, LiveTable, Standing, Version, version_name
from service.problems import problem_of
from service.state import DomainRecord, Job, State
from service.vectors import VectorFiles
from transrec.adapters import Adapter, AdapterSpec, SpecError, expected_tensors
from transrec.backbone import Dtype, resolve_dtype
from transrec.content import Content

KIND = "activate"
MIN_DISTINCT = 0.1
PROBES = 64
SAMPLE = 4096
TOLERANCE = 1e-3

_DAMAGE = (BundleError, VersionNotFound, BackboneNotFound, OSError)

_log = logging.getLogger("swaprec")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version loaded from the store: adapter, digest, and the dtype its items are embedded in."""

    version: Version
    digest: str
    dtype: Dtype
    adapter: Adapter | None
    adapter_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A catalog at one generation, with the contents to embed."""

    catalog: Catalog
    contents: list[Content]


@dataclass(frozen=True, slots=True)
class Turns:
    """A domain's locks: `change` lets one catalog change embed at a time, `flip` guards what is published."""

    change: threading.Lock = field(default_factory=threading.Lock)
    flip: threading.RLock = field(default_factory=threading.RLock)


class Activator:
    """The only writer of the live table."""

    def __init__(
        self,
        state: State,
        store: Store,
        live: LiveTable,
        vectors: VectorFiles,
        blobs: Blobs,
        engines: Mapping[str, Engine],
        jobs: Jobs,
        observe_swap: Callable[[float], None],
    ) -> None:
        self._state, self._store, self._live, self._vectors = state, store, live, vectors
        self._blobs, self._engines = blobs, engines
        self._jobs = jobs
        self._observe_swap = observe_swap
        self._turns: dict[str, Turns] = {}
        jobs.kinds[KIND] = self._activate

    def check(self, record: DomainRecord) -> Callable[[Bundle], list[Problem]]:
        """Return what the store asks of a bundle that is uploaded to a domain: every problem that stands against it."""
        engine = self.engine(record)

        def problems(bundle: Bundle) -> list[Problem]:
            try:
                spec = AdapterSpec.parse(bundle.manifest.spec)
                expected = expected_tensors(spec, engine.backbone.shape)
            except SpecError as error:
                return [Problem("manifest", f"manifest: spec: {problem}") for problem in error.problems]
            return check_bundle(bundle, expected, engine.backbone.fingerprint)

        return problems

    def engine(self, record: DomainRecord) -> Engine:
        """Return the engine of a domain's backbone.

        Raises:
            BackboneNotFound: this service has not loaded it.
        """
        engine = self._engines.get(record.backbone)
        if engine is None:
            loaded = ", ".join(fingerprint[:12] for fingerprint in self._engines) or "none"
            raise BackboneNotFound(
                f"domain {record.name!r} runs backbone {record.backbone[:12]}, loaded here: {loaded}; "
                "name its folder in SWAPREC_BACKBONES"
            )
        return engine

    def intake(self, domain: str) -> Intake:
        """Return what turns rows that came in into items of a domain.

        Raises:
            DomainNotFound, BackboneNotFound.
        """
        return Intake(self.engine(self._state.get_domain(domain)).backbone, self._blobs)

    def adapter(self, live: LiveDomain) -> Adapter | None:
        """Read the adapter of a live value from the store once more, for items that no catalog has.

        Raises:
            VersionNotFound: it was deleted meanwhile; BundleError: it is damaged.
        """
        return self._load(self._state.get_domain(live.domain), live.version).adapter

    def restore(self) -> None:
        """Make live again, in the background, what the store's log says; called once at the start."""
        names = [record.name for record in self._state.domains()]
        for name in names:
            self._live.wait(name, "being restored")

        def restore_then_resume() -> None:
            self.restore_all(names)
            self._jobs.resume()

        self._jobs.background(restore_then_resume)

    def restore_all(self, names: Sequence[str]) -> None:
        """Make domains live again one after the other, waiting for a state that is away."""
        for name in names:
            self._jobs.patiently(partial(self._restore, name))

    def submit(self, domain: str, version: Version) -> Job:
        """Queue the activation of a version, or of `none`.

        Raises:
            VersionNotFound, DomainNotFound: nothing was queued.
        """
        self._state.get_domain(domain)
        if version is not None:
            self._store.card(domain, version)
        return self._jobs.submit(KIND, domain, {"version": version_name(version)})

    def rollback(self, domain: str) -> LiveDomain:
        """Go back, at once, to the value that was live before.

        Raises:
            Conflict: there is none; DomainLoading: the domain does not answer yet.
        """
        self._live.get(domain)
        with self._turn(domain).flip:
            standing = self._live.get(domain)
            if standing.previous is None:
                name = version_name(standing.live.version)
                raise Conflict(f"{domain} has no version to go back to: {name} is the only one in memory")
            self._flip(standing.previous, standing.live, "rollback")
            return self._live.get(domain).live

    def domain_created(self, record: DomainRecord) -> None:
        """Make a new domain answer: an empty catalog under `none`. One that is restored, or broken, stays as it is."""
        if self._live.knows(record.name):
            return
        with self._turn(record.name).flip:
            if not self._live.knows(record.name):
                value = self._build(record, self._load(record, None), self._snapshot(record.name))
                self._live.publish(Standing(value))

    def catalog_changed(self, domain: str) -> None:
        """Embed new and changed items under the live and the previous version, and publish: they are searchable.

        Changes that come while one embeds wait and are then mostly done: the next one embeds for all of them.
        """
        self._live.get(domain)
        turn = self._turn(domain)
        with turn.change:
            snapshot = self._snapshot(domain)
            if self._is_current(domain, snapshot):
                return
            self._embed_ahead(domain, snapshot)
            with turn.flip:
                record, standing = self._state.get_domain(domain), self._live.get(domain)
                snapshot = self._snapshot(domain)
                live = self._build(record, self._load(record, standing.live.version), snapshot)
                previous = standing.previous and self._warm(record, standing.previous.version, snapshot)
                self._live.publish(Standing(live, previous))

    def _is_current(self, domain: str, snapshot: Snapshot) -> bool:
        # Both: an activation may have built the live value of a catalog that the one before it has not seen.
        standing = self._live.get(domain)
        warm = [value for value in (standing.live, standing.previous) if value is not None]
        return all(value.catalog.generation >= snapshot.catalog.generation for value in warm)

    def _embed_ahead(self, domain: str, snapshot: Snapshot) -> None:
        """Embed what is new outside the flip lock, so that a rollback need not wait for it."""
        record, standing = self._state.get_domain(domain), self._live.get(domain)
        self._embed(record, self._load(record, standing.live.version), snapshot.contents)
        if standing.previous is not None:
            with suppress(*_DAMAGE):  # `_warm` meets it again and says so
                self._embed(record, self._load(record, standing.previous.version), snapshot.contents)

    def delete_version(self, domain: str, version: int) -> None:
        """Delete a version and its vectors.

        Raises:
            VersionNotFound, VersionInUse: nothing was deleted.
        """
        with self._turn(domain).flip:
            card = self._store.card(domain, version)
            self._store.delete(domain, version)
            self._vectors.forget(domain, card.digest)

    def remove(self, domain: str) -> None:
        """Remove a domain with everything that is kept of it; what still answers a request goes with that request."""
        with self._turn(domain).flip:
            self._state.get_domain(domain)
            self._live.remove(domain)
            self._store.remove_domain(domain)
            self._vectors.forget(domain)
            self._state.delete_domain(domain)  # last: a crash before leaves a domain that can be deleted again

    def _turn(self, domain: str) -> Turns:
        """Return the locks of a domain that exists.

        Raises:
            DomainNotFound.
        """
        self._state.get_domain(domain)
        return self._turns.setdefault(domain, Turns())

    def _snapshot(self, domain: str) -> Snapshot:
        """Read the catalog; values of one generation share it in memory."""
        rows, standing = self._state.catalog(domain), self._live.find(domain)
        contents = self.intake(domain).contents(rows)
        if standing is not None and standing.live.catalog.generation == rows.generation:
            return Snapshot(standing.live.catalog, contents)
        return Snapshot(Catalog.of(rows), contents)

    def _activate(self, job: Job, progress: Progress) -> dict[str, Any]:
        domain, named = job.domain, job.detail["version"]
        version: Version = None if named == NONE else int(named)
        record = self._state.get_domain(domain)
        progress.stage("load")
        prepared = self._load(record, version)
        self._embed(record, prepared, self._snapshot(domain).contents, progress.stage("embed"))
        with self._turn(domain).flip:
            progress.stage("index")
            snapshot = self._snapshot(domain)
            value = self._build(record, prepared, snapshot)
            progress.stage("verify")
            verify(value, snapshot.contents)
            progress.stage("flip")
            standing = self._live.find(domain)
            before = standing.live if standing is not None else None
            if before is not None and before.version == version and standing is not None:
                before = standing.previous  # activated again: what a rollback returns to stays
            self._flip(value, before, "activate")
            digests = [card.digest for card in self._store.versions(domain)]
            self._vectors.keep(domain, [*digests, record.backbone])
        return {"version": version_name(version), "index_generation": value.index_generation}

    def _restore(self, domain: str) -> None:
        try:
            with self._turn(domain).flip:
                record, snapshot = self._state.get_domain(domain), self._snapshot(domain)
                live, previous = self._store.live(domain), self._store.previous(domain)
                value = self._build(record, self._load(record, live), snapshot)
                self._live.publish(Standing(value))
                if self._store.activations(domain) and previous != live:
                    self._live.publish(Standing(value, self._warm(record, previous, snapshot)))
        except StateUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one broken domain must not keep the others from answering
            _log.exception("domain %s cannot be restored", domain)
            why = error if isinstance(error, ServiceError) else None
            self._live.wait(domain, why or _Broken(f"{domain} cannot be restored: {problem_of(error).body['detail']}"))

    def _warm(self, record: DomainRecord, version: Version, snapshot: Snapshot) -> LiveDomain | None:
        """Build what a rollback returns to; None where it is damaged, which must not keep the live value from going on.

        The caller holds the domain's flip lock.
        """
        try:
            return self._build(record, self._load(record, version), snapshot)
        except _DAMAGE:
            _log.exception("%s cannot go back to version %s", record.name, version_name(version))
            return None

    def _load(self, record: DomainRecord, version: Version) -> Prepared:
        """Read a version and check it against the backbone, once more: the backbone may be another one now."""
        backbone = self.engine(record).backbone
        if version is None:
            return Prepared(None, backbone.fingerprint, resolve_dtype("auto", backbone.device), None, 0)
        bundle = self._store.open(record.name, version)
        problems = self.check(record)(bundle)
        if problems:
            raise BundleError(problems)
        spec = AdapterSpec.parse(bundle.manifest.spec)
        adapter = Adapter.from_tensors(spec, backbone.shape, bundle.tensors).to(backbone.device)
        size = sum(values.nbytes for values in bundle.tensors.values())
        dtype = resolve_dtype(bundle.manifest.dtype, backbone.device)
        return Prepared(version, bundle.digest, dtype, adapter, size)

    def _embed(
        self,
        record: DomainRecord,
        prepared: Prepared,
        contents: Sequence[Content],
        told: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        backbone = self.engine(record).backbone
        name, digest = record.name, prepared.digest
        return self._vectors.complete(name, digest, contents, backbone, prepared.adapter, prepared.dtype, told)

    def _build(self, record: DomainRecord, prepared: Prepared, snapshot: Snapshot) -> LiveDomain:
        """Build a value; the caller holds the domain's flip lock and took the snapshot under it."""
        engine = self.engine(record)
        return LiveDomain(
            domain=record.name,
            version=prepared.version,
            digest=prepared.digest,
            index_generation=self._state.next_index_generation(record.name),
            catalog=snapshot.catalog,
            index=ExactIndex(self._embed(record, prepared, snapshot.contents)),
            engine=engine,
            slot=engine.take_slot(prepared.adapter.user if prepared.adapter is not None else None),
            adapter_bytes=prepared.adapter_bytes,
            dtype=prepared.dtype,
        )

    def _flip(self, value: LiveDomain, previous: LiveDomain | None, reason: str) -> None:
        self._store.record_activation(value.domain, value.version, reason)
        started = time.perf_counter()
        self._live.publish(Standing(value, previous))
        self._observe_swap(time.perf_counter() - started)
        _log.info("%s answers from version %s (%s)", value.domain, version_name(value.version), reason)


class _Broken(ServiceError):
    status, code, title = 503, "domain_broken", "Domain broken"


def verify(value: LiveDomain, contents: Sequence[Content]) -> None:
    """Check a value before it goes live.

    Raises:
        StoreError: vectors that are not finite or nearly all the same, an index that does not hold them, or a user
            side that overflows.
    """
    vectors, name = value.index.vectors, version_name(value.version)
    if len(vectors) != len(value.catalog.ids):
        raise StoreError(f"{len(vectors)} item vectors for {len(value.catalog.ids)} items: not activated")
    bad = int((~np.isfinite(vectors).all(1)).sum())
    if bad:
        raise StoreError(f"{bad} of {len(vectors)} item vectors are not finite under version {name}: not activated")
    # A sample: telling all rows of a large catalog apart would keep requests waiting.
    sample = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).astype(np.int64)
    different, distinct = len({contents[row] for row in sample}), len(np.unique(vectors[sample], axis=0))
    if different > PROBES and distinct < MIN_DISTINCT * different:
        raise StoreError(f"{different} different items have only {distinct} different vectors: the adapter collapsed")
    if len(vectors):
        _verify_answers(value, sample[:: max(1, len(sample) // PROBES)])


def _verify_answers(value: LiveDomain, probes: NDArray[np.int64]) -> None:
    """Encode histories of one item and of many, and search: what a request does."""
    window = value.engine.backbone.config.max_history
    histories = [probes[start : start + size].tolist() for size in (1, window) for start in range(len(probes))]
    users = value.engine.encode([History(rows, value.slot, value.index) for rows in histories])
    if not np.isfinite(users).all():
        raise StoreError("the user side overflows: histories have vectors that are not finite; not activated")
    scores, rows = value.index.search(users, 1)
    direct = np.einsum("bd,bd->b", users, value.index.vectors[rows[:, 0]])
    if not np.isfinite(scores).all() or not np.allclose(
        scores[:, 0], direct, rtol=TOLERANCE, atol=TOLERANCE * np.abs(scores).max()
    ):
        raise StoreError("the index does not answer from its own vectors: not activated")
