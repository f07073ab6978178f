"""Opening the value of a version: the newest base that has its vectors, and every change since."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from adapters_store.errors import BundleError, VersionNotFound
from service.catalog.bases import Base, Bases
from service.catalog.live_items import LiveItems
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Versions
from service.engine.engine import Engine
from service.engine.slots import Slot
from service.errors import BackboneNotFound
from service.live.backlog import Backlog
from service.live.table import LiveDomain, LiveTable
from service.state import Changes, DomainRecord, Items
from service.version import Version, version_name
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


class ReusableValues:
    """Values of a domain that may be reused,
    and the changes that were read for one: the next one needs the same.
    """

    def __init__(self, record: DomainRecord, values: list[LiveDomain]) -> None:
        mine = (value for value in values if value.incarnation == record.incarnation)
        self._values = {(value.digest, value.dtype): value for value in mine}
        self._changes: dict[int, Changes | None] = {}

    def find(self, digest: str, dtype: Dtype) -> LiveDomain | None:
        """Return the value whose items are embedded by these weights in this dtype."""
        return self._values.get((digest, dtype))

    def changes(self, since: int, read: Callable[[int], Changes | None]) -> Changes | None:
        """Return the changes since a generation, read once."""
        if since not in self._changes:
            self._changes[since] = read(since)
        return self._changes[since]


class ValueOpener:
    """Opens values of versions, reusing what is in memory of them.

    Args:
        state: says what is in the catalog.
        live: has the adapters of evicted domains in their slots.
        versions, bases, vectors: what values are made of.
        backlog: gets the domains that cannot be brought up to date now.
    """

    def __init__(
        self,
        state: Items,
        live: LiveTable,
        versions: Versions,
        bases: Bases,
        vectors: VectorFiles,
        backlog: Backlog,
    ) -> None:
        self._state = state
        self._live = live
        self._versions = versions
        self._bases = bases
        self._vectors = vectors
        self._backlog = backlog

    def forget_files(self, domain: str) -> None:
        """Forget which files of a domain's bases were checked: they may have been damaged since."""
        self._bases.let_go(domain)

    def let_go(self, domain: str) -> None:
        """Close what is open of a removed domain."""
        self._versions.let_go(domain)
        self._bases.let_go(domain)
        self._vectors.let_go(domain)

    def open(
        self,
        record: DomainRecord,
        version: Version,
        reusable: ReusableValues,
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
        reusable: ReusableValues,
        key: tuple[str, Dtype],
        tolerate: ErrorTypes,
    ) -> LiveItems:
        known = reusable.find(*key)
        before = known.items if known is not None else self._make_empty(record)
        newer = self._bases.newest(record, *key, before.base)
        if (
            known is None
            and newer is None
            and self._state.count_items(record.name) > self._backlog.policy.rows
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
                self._backlog.troubled.add(record.name)
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
        self, record: DomainRecord, version: Version, items: LiveItems, reusable: ReusableValues
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
        self._backlog.await_base(record.name)
        return items.without(removals)
