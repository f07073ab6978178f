"""Making versions live: load, embed, index, verify aside; then one record in the store and one assignment.

Two rules keep a domain consistent. What takes long (embedding) happens outside the domain's lock, against a snapshot;
under the lock only what changed meanwhile is caught up. And the store's activation log is written before the flip is
seen by anyone, so that a restart answers from the version that was acknowledged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters_store.bundle import Bundle, check_bundle
from adapters_store.errors import BundleError, Problem, StoreError
from adapters_store.store import Store
from service.catalog import Catalog
from service.engine import Engine
from service.errors import BackboneNotFound, Conflict, ServiceError
from service.index import ExactIndex
from service.jobs import Jobs, Progress
from service.live import LiveDomain, LiveTable, Standing, Version, version_name
from service.problems import problem_of
from service.state import DomainRecord, Job, State
from service.vectors import VectorFiles
from transrec.adapters import Adapter, AdapterSpec, SpecError, expected_tensors

KIND = "activate"
MIN_DISTINCT = 0.1
PROBES = 64

_log = logging.getLogger("swaprec")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version loaded from the store: adapter, digest, and the dtype its items are embedded in."""

    version: Version
    digest: str
    dtype: str
    adapter: Adapter | None
    adapter_bytes: int


class Activator:
    """The only writer of the live table."""

    def __init__(
        self,
        state: State,
        store: Store,
        live: LiveTable,
        vectors: VectorFiles,
        engines: Mapping[str, Engine],
        jobs: Jobs,
        observe_swap: Callable[[float], None],
    ) -> None:
        self._state, self._store, self._live, self._vectors = state, store, live, vectors
        self._engines = engines
        self._jobs = jobs
        self._observe_swap = observe_swap
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
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

    def restore(self) -> None:
        """Make live again, in the background, what the store's log says; called once at the start."""
        names = [record.name for record in self._state.domains()]
        for name in names:
            self._live.wait(name, "being restored")

        def restore_all() -> None:
            for name in names:
                self._restore(name)
            self._jobs.resume()

        self._jobs.background(restore_all)

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
            Conflict: there is none.
        """
        with self._locks[domain]:
            standing = self._live.get(domain)
            if standing.previous is None:
                name = version_name(standing.live.version)
                raise Conflict(f"{domain} has no version to go back to: {name} is the only one that was live")
            self._flip(standing.previous, standing.live, "rollback")
            return self._live.get(domain).live

    def domain_created(self, record: DomainRecord) -> None:
        """Make a new domain answer: an empty catalog under `none`."""
        with self._locks[record.name]:
            if self._live.find(record.name) is None:
                self._publish(Standing(self._build(record, self._load(record, None))))

    def catalog_changed(self, domain: str) -> None:
        """Embed new and changed items under the live and the previous version, and publish: they are searchable."""
        self._embed_ahead(domain)
        with self._locks[domain]:
            record, standing = self._state.get_domain(domain), self._live.get(domain)
            catalog = Catalog.of(self._state.catalog(domain))
            if catalog.generation == standing.live.catalog.generation:
                return
            live = self._rebuilt(record, standing.live, catalog)
            previous = self._rebuilt(record, standing.previous, catalog) if standing.previous is not None else None
            self._publish(Standing(live, previous))

    def _embed_ahead(self, domain: str) -> None:
        """Embed what is new outside the domain's lock, so that a rollback need not wait for it."""
        record, standing = self._state.get_domain(domain), self._live.get(domain)
        catalog = Catalog.of(self._state.catalog(domain))
        for value in (standing.live, standing.previous):
            if value is not None:
                self._embed(record, self._load(record, value.version), catalog)

    def delete_version(self, domain: str, version: int) -> None:
        """Delete a version and its vectors.

        Raises:
            VersionNotFound, VersionInUse: nothing was deleted.
        """
        with self._locks[domain]:
            card = self._store.card(domain, version)
            self._store.delete(domain, version)
            self._vectors.forget(domain, card.digest)

    def remove(self, domain: str) -> None:
        """Remove a domain with everything that is kept of it; what still answers a request goes with that request."""
        with self._locks[domain]:
            self._state.get_domain(domain)
            self._live.remove(domain)
            self._store.remove_domain(domain)
            self._vectors.forget(domain)
            self._state.delete_domain(domain)  # last: a crash before leaves a domain that can be deleted again

    def _activate(self, job: Job, progress: Progress) -> dict[str, Any]:
        domain, named = job.domain, job.detail["version"]
        version: Version = None if named == "none" else int(named)
        record = self._state.get_domain(domain)
        progress.stage("load")
        prepared = self._load(record, version)
        self._embed(record, prepared, Catalog.of(self._state.catalog(domain)), progress.stage("embed"))
        with self._locks[domain]:
            progress.stage("index")
            value = self._build(record, prepared)
            progress.stage("verify")
            verify(value)
            progress.stage("flip")
            standing = self._live.find(domain)
            before = standing.live if standing is not None else None
            if before is not None and before.version == version and standing is not None:
                before = standing.previous  # activated again: what a rollback returns to stays
            self._flip(value, before, "activate")
        return {"version": version_name(version), "index_generation": value.index_generation}

    def _restore(self, domain: str) -> None:
        try:
            with self._locks[domain]:
                record = self._state.get_domain(domain)
                live, previous = self._store.live(domain), self._store.previous(domain)
                value = self._build(record, self._load(record, live))
                self._publish(Standing(value))
                if len(self._store.activations(domain)) > 0 and previous != live:
                    self._publish(Standing(value, self._build(record, self._load(record, previous))))
        except Exception as error:  # noqa: BLE001 - one broken domain must not keep the others from answering
            _log.exception("domain %s cannot be restored", domain)
            why = error if isinstance(error, ServiceError) else None
            self._live.wait(domain, why or _Broken(f"{domain} cannot be restored: {problem_of(error).body['detail']}"))

    def _load(self, record: DomainRecord, version: Version) -> Prepared:
        """Read a version and check it against the backbone, once more: the backbone may be another one now."""
        backbone = self.engine(record).backbone
        if version is None:
            return Prepared(None, backbone.fingerprint, "auto", None, 0)
        bundle = self._store.open(record.name, version)
        problems = self.check(record)(bundle)
        if problems:
            raise BundleError(problems)
        spec = AdapterSpec.parse(bundle.manifest.spec)
        adapter = Adapter.from_tensors(spec, backbone.shape, bundle.tensors).to(backbone.device)
        size = sum(values.nbytes for values in bundle.tensors.values())
        return Prepared(version, bundle.digest, bundle.manifest.dtype, adapter, size)

    def _embed(
        self, record: DomainRecord, prepared: Prepared, catalog: Catalog, told: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        backbone = self.engine(record).backbone
        name, digest = record.name, prepared.digest
        return self._vectors.complete(name, digest, catalog, backbone, prepared.adapter, prepared.dtype, told)

    def _build(self, record: DomainRecord, prepared: Prepared, catalog: Catalog | None = None) -> LiveDomain:
        """Build a value of the catalog as it is now; the caller holds the domain's lock."""
        catalog = catalog or Catalog.of(self._state.catalog(record.name))
        engine = self.engine(record)
        return LiveDomain(
            domain=record.name,
            version=prepared.version,
            digest=prepared.digest,
            index_generation=self._state.next_index_generation(record.name),
            catalog=catalog,
            index=ExactIndex(self._embed(record, prepared, catalog)),
            engine=engine,
            slot=engine.take_slot(prepared.adapter.user if prepared.adapter is not None else None),
            adapter_bytes=prepared.adapter_bytes,
        )

    def _rebuilt(self, record: DomainRecord, value: LiveDomain, catalog: Catalog) -> LiveDomain:
        return self._build(record, self._load(record, value.version), catalog)

    def _flip(self, value: LiveDomain, previous: LiveDomain | None, reason: str) -> None:
        self._store.record_activation(value.domain, value.version, reason)
        started = time.perf_counter()
        self._publish(Standing(value, previous))
        self._observe_swap(time.perf_counter() - started)
        _log.info("%s answers from version %s (%s)", value.domain, version_name(value.version), reason)

    def _publish(self, standing: Standing) -> None:
        self._live.publish(standing)


class _Broken(ServiceError):
    status, code, title = 503, "domain_broken", "Domain broken"


def verify(value: LiveDomain) -> None:
    """Check a value before it goes live.

    Raises:
        StoreError: vectors that are not finite, or that are nearly all the same.
    """
    vectors = value.index.vectors
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors).all(1)).sum())
        raise StoreError(
            f"{bad} of {len(vectors)} item vectors are not finite under version {value.version}: not activated"
        )
    texts = len(np.unique(value.catalog.keys, axis=0))
    distinct = len(np.unique(vectors, axis=0))
    if texts > PROBES and distinct < MIN_DISTINCT * texts:
        raise StoreError(f"{texts} different items have only {distinct} different vectors: the adapter collapsed them")
    if len(vectors):
        scores, rows = value.index.search(vectors[:PROBES], 1)
        if not np.isfinite(scores).all() or (rows < 0).any():
            raise StoreError("the index does not answer its own items: not activated")
