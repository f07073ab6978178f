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

from adapters_store.activations import Activation
from adapters_store.errors import OutOfSpace, StoreDamaged
from adapters_store.store import Store
from service.errors import DomainLoading, DomainNotFound, ServiceError, StateUnavailable
from service.live.backlog import Backlog
from service.live.keyed_locks import KeyedLocks
from service.live.opening import DAMAGE_ERRORS, NotBuilt, ReusableValues, ValueOpener
from service.live.residency import Residency
from service.live.table import Deployment, LiveDomain, LiveTable
from service.state import Catalogs, DomainRecord
from service.version import Version, version_name
from service.wire.problems import is_expected, problem_of

_log = logging.getLogger("swaprec")


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
        opener: opens the values of versions.
        backlog: gets the domains that stay behind.
        residency: what of the live table is in memory.
        observe_swap: called with the seconds of each publication.

    `on_removed` are called with domains that were removed.
    """

    def __init__(
        self,
        state: Catalogs,
        store: Store,
        live: LiveTable,
        opener: ValueOpener,
        backlog: Backlog,
        residency: Residency,
        observe_swap: Callable[[float], None],
    ) -> None:
        self._state = state
        self._store = store
        self._live = live
        self._opener = opener
        self._residency = residency
        self._observe_swap = observe_swap
        self._locks = KeyedLocks()
        self.backlog = backlog
        self.on_removed: list[Callable[[str], object]] = [
            live.remove,
            backlog.clear,
            opener.let_go,
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
                self.backlog.clear(domain)
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
            return self._opener.open(record, version, ReusableValues(record, []), 0)

    def _drop_cut(self, domain: str) -> None:
        """Answer no more from files that were cut:
        reading what they lack would kill the process.
        """
        deployment = self._live.find(domain) or self._live.cached(domain).deployment
        if deployment is None or not deployment.is_cut():
            return
        where = deployment.live.items.base.path
        _log.error("%s: a file of %s was cut while it was mapped: it is built anew", domain, where)
        self._opener.forget_files(domain)
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
        reusable = ReusableValues(record, values)
        deployment = self._assemble(record, activation, reusable)
        if deployment != now:
            started = time.perf_counter()
            self._live.publish(deployment)
            self._observe_swap(time.perf_counter() - started)
            if now is None or now.live.version != deployment.live.version:
                name = version_name(deployment.live.version)
                _log.info("%s answers from version %s (%s)", record.name, name, activation.reason)
            self._residency.enforce_budget(record.name)
        self.backlog.compact_if_due(record.name, deployment.live.items)
        return deployment

    def _assemble(
        self, record: DomainRecord, activation: Activation, reusable: ReusableValues
    ) -> Deployment:
        tolerate = (NotBuilt, OutOfSpace, *DAMAGE_ERRORS)
        made = {
            activation.version: self._opener.open(
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
        self, record: DomainRecord, version: Version, reusable: ReusableValues, number: int
    ) -> LiveDomain | None:
        """Return what does not answer everybody;
        None where it is damaged or not built, which stops nothing else.
        """
        try:
            value = self._opener.open(record, version, reusable, number, (NotBuilt,))
        except NotBuilt:
            self.backlog.request_compaction(record.name)
        except DAMAGE_ERRORS:
            _log.exception("%s has no version %s to go to", record.name, version_name(version))
        else:
            if value.items.incomplete:
                self.backlog.request_compaction(record.name)
            return value
        return None

    def _wait_for_build(self, record: DomainRecord) -> None:
        """Answer no more than before until there is a base;
        not at all, if that is of an earlier domain of the name.
        """
        if not self._is_answering(record):
            self._live.wait(record.name, "being embedded")
        self.backlog.await_base(record.name)

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
        self.backlog.troubled.add(record.name)
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
