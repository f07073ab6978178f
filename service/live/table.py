"""What domains answer from: one frozen value a domain, published by one assignment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.catalog.live_items import LiveItems
from service.engine.engine import Engine, History
from service.engine.slots import Slot
from service.errors import DomainLoading, ServiceError, VersionNotServable
from service.version import NONE, Version, version_name
from transrec.arrays import Floats
from transrec.devices import Dtype


@dataclass(frozen=True, slots=True, eq=False)
class LiveDomain:
    """A version of a domain, ready to answer. Nothing in it ever changes.

    `incarnation` tells the domain from an earlier one of its name. `dtype` is what its items are
    embedded in. `digest` is the bundle's, or the backbone's fingerprint for `none`. The engine's
    slot is given back when the last reference to it is gone, so that a request that still holds an
    old value is answered by the old weights.
    """

    domain: str
    incarnation: str
    version: Version
    digest: str
    index_generation: int
    items: LiveItems
    engine: Engine
    slot: Slot
    adapter_bytes: int
    dtype: Dtype

    def encode(self, histories: Sequence[Sequence[int]]) -> Floats:
        """Encode histories, given as rows of the items,
        to user vectors [B, d]; safe from any thread.
        """
        return self.engine.encode([History(rows, self.slot, self.items) for rows in histories])

    def memory(self) -> dict[str, int]:
        """Bytes that this value adds to the process, by part."""
        return {"adapter": self.adapter_bytes, **self.items.memory()}


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a domain answers from: the live version, the previous one for a rollback, a canary and
    pinned versions.

    `percent` of the users get the canary. A pinned version may also be the live one, the previous
    one or the canary.
    """

    live: LiveDomain
    previous: LiveDomain | None = None
    canary: LiveDomain | None = None
    percent: int = 0
    pinned: tuple[LiveDomain, ...] = ()

    @property
    def warm(self) -> list[LiveDomain]:
        """All that can answer, the live value first."""
        values = [
            value
            for value in (self.live, self.canary, self.previous, *self.pinned)
            if value is not None
        ]
        return list({id(value): value for value in values}.values())

    def get(self, version: Version | str) -> LiveDomain:
        """Return the value of a version that a request names.

        Raises:
            VersionNotServable: it is not kept warm.
        """
        wanted = None if version == NONE else version
        for value in self.warm:
            if value.version == wanted:
                return value
        there = ", ".join(str(version_name(value.version)) for value in self.warm)
        raise VersionNotServable(
            f"{self.live.domain} can answer from versions {there} now, not from {version}: activate"
            " or pin it first"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of vectors, indexes and ids; what values share counts once."""
        held: dict[int, int] = {}
        for value in self.warm:
            held |= value.items.held()
        return sum(held.values())

    @property
    def is_mapped(self) -> bool:
        """Whether hardly more than mapped files is in memory of it."""
        return all(value.items.is_mapped for value in self.warm)

    def is_cut(self) -> bool:
        """Whether a file that it maps lost some of its end: it must not answer any more."""
        return any(value.items.is_cut() for value in self.warm)

    def forget_pages(self) -> None:
        """Take what is mapped from memory until it is read again."""
        for value in self.warm:
            value.items.forget_pages()


@dataclass(frozen=True, slots=True)
class Evicted:
    """What stays in memory of an evicted domain.

    `slots`: by digest and dtype, its adapters in their slots, and their bytes. `deployment`: what
    it answered from, without pages; None where that was more than mapped files, or the domain
    changed since.
    """

    slots: Mapping[tuple[str, Dtype], tuple[Slot, int]]
    deployment: Deployment | None = None


class LiveTable:
    """The deployments of all domains. Reading takes no lock: a deployment is replaced, never
    changed.

    An evicted domain is not in memory; `load` brings it back. The last `max_cached` evicted domains
    keep their deployments; not all can, since each holds maps of the process.
    """

    def __init__(self, exists: Callable[[str], object], max_cached: int = 1000) -> None:
        self._deployments: dict[str, Deployment] = {}
        self._waiting: dict[str, str | ServiceError] = {}
        self._evicted: dict[str, Evicted] = {}
        self._recent: dict[str, None] = {}
        self._sizes: dict[str, int] = {}
        self._changing = threading.Lock()
        self._exists = exists
        self._max_cached = max_cached
        self._cached: dict[str, None] = {}
        self.bytes = 0
        # Set by the app to Reconciler.load, which this module may not import.
        self.load: Callable[[str], Deployment | None] = self._deployments.get

    def get(self, domain: str) -> Deployment:
        """Return the deployment of a domain; an evicted one is loaded.

        Raises:
            DomainNotFound: it does not exist; DomainLoading: it will soon answer; another
                ServiceError: it cannot.
        """
        deployment = self.touch(domain)
        if deployment is None and domain in self._evicted:
            deployment = self.load(domain)
        if deployment is None:
            self._exists(domain)
            why = self._waiting.get(domain, "being made ready")
            raise DomainLoading(domain, why) if isinstance(why, str) else why
        return deployment

    def find(self, domain: str) -> Deployment | None:
        """Return the deployment of a domain, None where it is not in memory."""
        return self._deployments.get(domain)

    def touch(self, domain: str) -> Deployment | None:
        """Return the deployment of a domain and mark it as recently used;
        None where it is not in memory.
        """
        deployment = self._deployments.get(domain)
        if deployment is not None:
            self._recent.pop(domain, None)  # so that the least recently used comes first
            self._recent[domain] = None
        return deployment

    def has(self, domain: str) -> bool:
        """Whether a domain answers, will soon, or is known to be broken."""
        return domain in self._deployments or domain in self._waiting or domain in self._evicted

    def is_evicted(self, domain: str) -> bool:
        """Whether a domain must be loaded before it answers."""
        return domain in self._evicted

    def cached(self, domain: str) -> Evicted:
        """Return what is cached of an evicted domain."""
        return self._evicted.get(domain, Evicted({}))

    def least_recent(self, excluding: str) -> str | None:
        """Name the least recently used domain; None where all others are pinned."""
        for name in list(self._recent):
            deployment = self._deployments.get(name)
            if deployment is not None and name != excluding and not deployment.pinned:
                return name
        return None

    def _cache(self, domain: str) -> None:
        self._cached.pop(domain, None)
        self._cached[domain] = None
        while len(self._cached) > self._max_cached:
            oldest = next(iter(self._cached))
            del self._cached[oldest]
            if oldest in self._evicted:
                self._evicted[oldest] = Evicted(self._evicted[oldest].slots)

    def restore(self, domain: str) -> Deployment | None:
        """Publish the cached deployment of an evicted domain again;
        None where it is gone or was invalidated.
        """
        with self._changing:
            evicted = self._evicted.get(domain)
            if evicted is None or evicted.deployment is None or evicted.deployment.is_cut():
                return None
            self._publish(domain, evicted.deployment)
        return evicted.deployment

    def invalidate(self, domain: str) -> bool:
        """Drop the cached deployment of an evicted domain,
        which changed; returns whether it is evicted.
        """
        with self._changing:
            evicted = self._evicted.get(domain)
            if evicted is not None:
                self._evicted[domain] = Evicted(evicted.slots)
        return evicted is not None

    def publish(self, deployment: Deployment) -> None:
        """Make a value live: one assignment."""
        with self._changing:
            self._publish(deployment.live.domain, deployment)

    def _publish(self, domain: str, deployment: Deployment) -> None:
        self._deployments[domain] = deployment
        self._waiting.pop(domain, None)
        self._evicted.pop(domain, None)
        self._recent.setdefault(domain)
        self._resize(domain, deployment.nbytes)

    def evict(self, domain: str) -> bool:
        """Remove the deployment of a domain from memory,
        save its adapters; returns whether it was there.
        """
        with self._changing:
            deployment = self._deployments.get(domain)
            if deployment is None:
                self._evicted.setdefault(domain, Evicted({}))
            else:
                slots = {
                    (one.digest, one.dtype): (one.slot, one.adapter_bytes)
                    for one in deployment.warm
                }
                self._evicted[domain] = Evicted(slots, deployment if deployment.is_mapped else None)
                self._cache(domain)
            self._deployments.pop(domain, None)
            self._waiting.pop(domain, None)
            self._recent.pop(domain, None)
            self._resize(domain, 0)
        if deployment is not None:
            deployment.forget_pages()
        return deployment is not None

    def wait(self, domain: str, why: str | ServiceError) -> None:
        """Say why a domain does not answer yet."""
        self._waiting[domain] = why
        self._evicted.pop(domain, None)

    def remove(self, domain: str) -> None:
        """Forget a domain."""
        with self._changing:
            for table in (self._deployments, self._waiting, self._evicted, self._recent):
                table.pop(domain, None)
            self._resize(domain, 0)

    def _resize(self, domain: str, size: int) -> None:
        self.bytes += size - self._sizes.pop(domain, 0)
        if size:
            self._sizes[domain] = size

    def all(self) -> list[Deployment]:
        """Return all deployments."""
        return list(self._deployments.values())

    def names(self) -> set[str]:
        """Name every domain that answers, is evicted, will answer, or is broken."""
        return {*list(self._deployments), *list(self._evicted), *list(self._waiting)}

    @property
    def evicted(self) -> list[str]:
        """Domains that are loaded at their next request."""
        return list(self._evicted)

    @property
    def loading(self) -> dict[str, str]:
        """Domains that will soon answer, and what they wait for."""
        return {name: why for name, why in list(self._waiting.items()) if isinstance(why, str)}

    @property
    def broken(self) -> dict[str, str]:
        """Domains that cannot answer until somebody acts, and why."""
        return {
            name: why.detail
            for name, why in list(self._waiting.items())
            if isinstance(why, ServiceError)
        }
