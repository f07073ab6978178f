"""Keeps what this process answers from equal to what store and state say.

The store's log says which versions of a domain are live, what a rollback returns to, and which is a
canary; state says what is in the catalog. `reconcile` brings one domain there, from wherever it is:
it is called after every change of this process, for every entry of the feed, and at the start.
Nothing depends on having seen each change.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from adapters_store.activations import Activation
from adapters_store.errors import BundleError, OutOfSpace, StoreDamaged, VersionNotFound
from adapters_store.store import Store
from service.catalog.bases import Base, Bases
from service.catalog.live_items import COMPACTION_ROWS, LiveItems
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Versions
from service.engine.engine import Engine
from service.engine.slots import Slot
from service.errors import (
    BackboneNotFound,
    DomainLoading,
    DomainNotFound,
    ServiceError,
    StateUnavailable,
)
from service.live.keyed_locks import KeyedLocks
from service.live.residency import Residency
from service.live.table import Deployment, LiveDomain, LiveTable
from service.state import Catalogs, Changes, DomainRecord
from service.version import Version, version_name
from service.wire.problems import is_expected, problem_of
from transrec.devices import Dtype

EMBED_INLINE_MAX = 256
"""Up to this many items are embedded inline; more become a job."""

DELTA_ROWS_MAX = 20_000
"""Maximum changed items in memory next to a base; more wait for the next base."""

DAMAGE_ERRORS = (BundleError, VersionNotFound, BackboneNotFound, OSError)

ErrorTypes = tuple[type[Exception], ...]

_log = logging.getLogger("swaprec")


class NotBuilt(Exception):
    """The vectors of a version, or of many items under it, must be built by a job first."""


class Broken(ServiceError):
    """A domain that cannot answer until somebody acts."""

    status = 503
    code = "domain_broken"
    title = "Domain broken"


class VersionsLost(ServiceError):
    """A domain whose activation log is lost: it answers again when a version is activated."""

    status = 503
    code = "store_damaged"
    title = "Store damaged"


class Reconciler:
    """The only writer of the live table.

    Args:
        state, store: the truth.
        live: what requests read.
        versions, bases, vectors: what values are made of.
        residency: what of it is in memory.
        observe_swap: called with the seconds of each publication.

    `waiting` are domains that a build must bring on: until then they answer without removed items
    and without other changes, or not at all if there is nothing to answer from. `on_removed` are
    called with those that were removed. `troubled` are domains that stay at what they were, for an
    error that may pass.
    """

    def __init__(
        self,
        state: Catalogs,
        store: Store,
        live: LiveTable,
        versions: Versions,
        bases: Bases,
        vectors: VectorFiles,
        residency: Residency,
        observe_swap: Callable[[float], None],
    ) -> None:
        self._state = state
        self._store = store
        self._live = live
        self._versions = versions
        self._bases = bases
        self._vectors = vectors
        self._residency = residency
        self._observe_swap = observe_swap
        self._locks = KeyedLocks()
        self.waiting: set[str] = set()
        self.troubled: set[str] = set()
        self.request_compaction: Callable[[str], object] = lambda _: None
        self.on_removed: list[Callable[[str], object]] = [
            live.remove,
            self.waiting.discard,
            self.troubled.discard,
            versions.let_go,
            bases.let_go,
            vectors.let_go,
        ]

    def load(self, domain: str) -> Deployment | None:
        """Bring an evicted domain back into memory; None where it cannot answer."""
        return self.reconcile(domain, load=True)

    @contextmanager
    def turn(self, domain: str) -> Iterator[None]:
        """Hold what guards the publication of a domain's values in this process."""
        with self._locks.of(domain):
            yield

    def reconcile(
        self, domain: str, candidate: LiveDomain | None = None, *, load: bool = False
    ) -> Deployment | None:
        """Make the deployment of a domain equal to store and state; None where it cannot answer or
        is evicted.

        Args:
            domain: whether it exists or not.
            candidate: a value that exists already, and may be the wanted one.
            load: also where it is evicted, or was never requested and there is no room.

        Raises:
            StateUnavailable: nothing was changed.
        """
        with self.turn(domain):
            try:
                record = self._state.get_domain(domain)
            except DomainNotFound:
                for forget in self.on_removed:
                    forget(domain)
                return None
            self._drop_cut(domain)
            if not load and candidate is None and self._stays_evicted(record):
                return None
            try:
                self.waiting.discard(domain)
                self.troubled.discard(domain)
                return self._bring_up_to_date(record, candidate)
            except NotBuilt:
                self._wait_for_build(record)
            except StateUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one broken domain must not keep the others from answering
                self._break(record, error)
            return self._live.find(domain)

    def open_candidate(self, record: DomainRecord, version: Version) -> LiveDomain:
        """Open a version beside what is live, with everything in it that the catalog has now.

        Raises:
            NotBuilt: its vectors are not there; what `Versions.load` raises.
        """
        with self.turn(record.name):
            return self._open_version(record, version, _ReusableValues(record, []), 0)

    def _drop_cut(self, domain: str) -> None:
        """Answer no more from files that were cut:
        reading what they lack would kill the process.
        """
        deployment = self._live.find(domain) or self._live.cached(domain).deployment
        if deployment is None or not deployment.is_cut():
            return
        where = deployment.live.items.base.path
        _log.error("%s: a file of %s was cut while it was mapped: it is built anew", domain, where)
        self._bases.let_go(domain)
        if not self._live.invalidate(domain):
            self._live.remove(domain)
            self._live.wait(domain, "being built anew, since a file of its vectors was damaged")

    def _stays_evicted(self, record: DomainRecord) -> bool:
        """Whether a domain is evicted, or is to be,
        since nobody requested it and there is no room.
        """
        domain = record.name
        if self._store.pinned(domain):
            return False
        if self._live.is_evicted(domain):
            return self._is_current(record) or self._live.invalidate(domain)
        if self._residency.has_room() or self._live.find(domain) is not None:
            return False
        self._live.evict(domain)
        return True

    def _is_current(self, record: DomainRecord) -> bool:
        """Whether nothing that an evicted domain answers from has changed since its eviction."""
        domain = record.name
        cached = self._live.cached(domain).deployment
        if cached is None:
            return True
        try:
            activation = self._store.current(domain)
        except StoreDamaged:  # whoever asks next gets the error
            return False
        number = self._state.generation(domain) + activation.number
        pinned = [value.version for value in cached.pinned]
        there = (cached.live.incarnation, cached.live.index_generation, pinned)
        return there == (record.incarnation, number, self._store.pinned(domain))

    def _bring_up_to_date(self, record: DomainRecord, candidate: LiveDomain | None) -> Deployment:
        now = self._live.find(record.name)
        activation = self._store.current(record.name)
        values = [
            *(now.warm if now is not None else ()),
            *([candidate] if candidate is not None else []),
        ]
        reusable = _ReusableValues(record, values)
        deployment = self._assemble(record, activation, reusable)
        if deployment != now:
            started = time.perf_counter()
            self._live.publish(deployment)
            self._observe_swap(time.perf_counter() - started)
            if now is None or now.live.version != deployment.live.version:
                name = version_name(deployment.live.version)
                _log.info("%s answers from version %s (%s)", record.name, name, activation.reason)
            self._residency.enforce_budget(record.name)
        if deployment.live.items.needs_compaction:
            self.request_compaction(record.name)
        return deployment

    def _assemble(
        self, record: DomainRecord, activation: Activation, reusable: _ReusableValues
    ) -> Deployment:
        tolerate = (NotBuilt, OutOfSpace, *DAMAGE_ERRORS)
        made = {
            activation.version: self._open_version(
                record, activation.version, reusable, activation.number, tolerate
            )
        }

        def warm(version: Version) -> LiveDomain | None:
            if (
                version not in made
                and (found := self._open_warm(record, version, reusable, activation.number))
                is not None
            ):
                made[version] = found
            return made.get(version)

        previous = warm(activation.previous) if activation.previous != activation.version else None
        canary = warm(activation.canary) if activation.percent else None
        pinned = tuple(
            value
            for version in self._store.pinned(record.name)
            if (value := warm(version)) is not None
        )
        percent = activation.percent if canary is not None else 0
        return Deployment(made[activation.version], previous, canary, percent, pinned)

    def _open_warm(
        self, record: DomainRecord, version: Version, reusable: _ReusableValues, number: int
    ) -> LiveDomain | None:
        """Return what does not answer everybody;
        None where it is damaged or not built, which stops nothing else.
        """
        try:
            value = self._open_version(record, version, reusable, number, (NotBuilt,))
        except NotBuilt:
            self.request_compaction(record.name)
        except DAMAGE_ERRORS:
            _log.exception("%s has no version %s to go to", record.name, version_name(version))
        else:
            if value.items.incomplete:
                self.request_compaction(record.name)
            return value
        return None

    def _open_version(
        self,
        record: DomainRecord,
        version: Version,
        reusable: _ReusableValues,
        number: int,
        tolerate: ErrorTypes = (),
    ) -> LiveDomain:
        """Return a version's value with the newest base that has its vectors and every change
        since.

        Args:
            record: of the domain.
            version: whose vectors.
            reusable: values that may be reused.
            number: of the activation.
            tolerate: errors after which the previous value is kept, minus removed items.

        Raises:
            NotBuilt: there is no previous value, or it is not tolerated.
        """
        digest, dtype = self._versions.identify(record, version)
        known = reusable.find(digest, dtype)
        items = self._open_items(record, version, reusable, (digest, dtype), tolerate)
        # What lacks something has the number before, so that it is not taken for what has all.
        lacks = items.incomplete or items.removed_until > items.generation
        generation = max(items.generation, items.removed_until) - lacks + number
        if known is not None:
            same = (
                known.items is items
                and known.version == version
                and known.index_generation == generation
            )
            return (
                known
                if same
                else replace(known, items=items, version=version, index_generation=generation)
            )
        engine = self._versions.engine(record)
        cached = self._live.cached(record.name).slots.get((digest, dtype))
        slot, adapter_bytes = cached or self._take_slot(record, version, engine)
        return LiveDomain(
            domain=record.name,
            incarnation=record.incarnation,
            version=version,
            digest=digest,
            index_generation=generation,
            items=items,
            engine=engine,
            slot=slot,
            adapter_bytes=adapter_bytes,
            dtype=dtype,
        )

    def _open_items(
        self,
        record: DomainRecord,
        version: Version,
        reusable: _ReusableValues,
        key: tuple[str, Dtype],
        tolerate: ErrorTypes,
    ) -> LiveItems:
        known = reusable.find(*key)
        before = known.items if known is not None else self._make_empty(record)
        newer = self._bases.newest(record, *key, before.base)
        if (
            known is None
            and newer is None
            and self._state.count_items(record.name) > COMPACTION_ROWS
        ):
            raise NotBuilt  # a base is due: reading all of it here would be in vain
        items = LiveItems.of(*newer) if newer is not None else before
        try:
            items = self._catch_up(record, version, items, reusable)
            if items.incomplete and NotBuilt not in tolerate:
                raise NotBuilt
        except tolerate as error:
            if known is None and newer is None:
                raise
            if not isinstance(error, NotBuilt):
                _log.error(
                    "%s@%s takes no changes but deletes: %s",
                    record.name,
                    version_name(version),
                    error,
                )
                self.troubled.add(record.name)
            # A base may be older than what answers.
            items = self._without_removed(
                record, max(items, before, key=lambda one: one.generation)
            )
        return items

    def _take_slot(
        self, record: DomainRecord, version: Version, engine: Engine
    ) -> tuple[Slot, int]:
        prepared = self._versions.load(record, version)
        side = prepared.adapter.user if prepared.adapter is not None else None
        return engine.take_slot(side), prepared.adapter_bytes

    def _make_empty(self, record: DomainRecord) -> LiveItems:
        """Return no items, as they were before the first one came."""
        width = self._versions.engine(record).backbone.config.width
        return LiveItems.of(Base.empty(0), np.zeros((0, width), np.float32))

    def _catch_up(
        self, record: DomainRecord, version: Version, items: LiveItems, reusable: _ReusableValues
    ) -> LiveItems:
        # A large import must not grow in every process.
        most = max(EMBED_INLINE_MAX, DELTA_ROWS_MAX - len(items.delta.ids))
        changes = reusable.changes(
            items.generation,
            lambda since: self._state.changes(record.name, since, record.incarnation, most),
        )
        if changes is None:
            raise NotBuilt
        if changes.generation == items.generation:
            return items
        # What was deleted goes without the version's file, which may be damaged.
        if not changes.upserted:
            return items.with_changes(changes, np.zeros((0, items.width), np.float32))
        contents = self._versions.item_reader(record.name).contents_of(changes.upserted)
        prepared = self._versions.load(record, version)
        if self._vectors.missing(record.name, prepared, contents, items.width) > EMBED_INLINE_MAX:
            raise NotBuilt
        backbone = self._versions.engine(record).backbone
        vectors = self._vectors.complete(record.name, prepared, contents, backbone)
        return items.with_changes(changes, vectors)

    def _without_removed(self, record: DomainRecord, items: LiveItems) -> LiveItems:
        """Return items without those that were removed since; other changes wait for a build.

        Raises:
            NotBuilt: some removals are no longer known.
        """
        removals = self._state.removals(record.name, items.removed_until, record.incarnation)
        if removals is None:
            raise NotBuilt
        self.waiting.add(record.name)
        self.request_compaction(record.name)
        return items.without(removals)

    def _wait_for_build(self, record: DomainRecord) -> None:
        """Answer no more than before until there is a base;
        not at all, if that is of an earlier domain of the name.
        """
        self.waiting.add(record.name)
        if not self._is_answering(record):
            self._live.wait(record.name, "being embedded")
        self.request_compaction(record.name)

    def explain(self, domain: str, why: str) -> None:
        """Say why a domain that does not answer will not before somebody acts."""
        if self._live.find(domain) is None:
            self._live.wait(domain, Broken(f"{domain} does not answer: {why}"))

    def _is_answering(self, record: DomainRecord) -> bool:
        """Whether a domain answers; it does not any
        more where that was an earlier one of its name.
        """
        now = self._live.find(record.name)
        if now is not None and now.live.incarnation != record.incarnation:
            self._live.remove(record.name)
            return False
        return now is not None

    def _break(self, record: DomainRecord, error: Exception) -> None:
        self.troubled.add(record.name)
        inside = None if is_expected(error) else error
        if self._is_answering(record):
            _log.error("domain %s stays at what it was: %s", record.name, error, exc_info=inside)
            return
        _log.error("domain %s cannot answer: %s", record.name, error, exc_info=inside)
        known = (
            error
            if isinstance(error, ServiceError) and not isinstance(error, DomainLoading)
            else None
        )
        if isinstance(error, StoreDamaged):
            known = VersionsLost(str(error))
        message = problem_of(error).body["detail"]
        self._live.wait(
            record.name, known or Broken(f"{record.name} cannot be restored: {message}")
        )


class _ReusableValues:
    """Values of a domain that may be reused,
    and the changes that were read for one: the next one needs the same.
    """

    def __init__(self, record: DomainRecord, values: list[LiveDomain]) -> None:
        mine = (value for value in values if value.incarnation == record.incarnation)
        self._values = {(value.digest, value.dtype): value for value in mine}
        self._changes: dict[int, Changes | None] = {}

    def find(self, digest: str, dtype: Dtype) -> LiveDomain | None:
        return self._values.get((digest, dtype))

    def changes(self, since: int, read: Callable[[int], Changes | None]) -> Changes | None:
        if since not in self._changes:
            self._changes[since] = read(since)
        return self._changes[since]
