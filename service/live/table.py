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
from transrec.backbone import Dtype


@dataclass(frozen=True, slots=True, eq=False)
class LiveDomain:
    """A version of a domain, ready to answer. Nothing in it ever changes.

    `born` tells the domain from an earlier one of its name. `dtype` is what its items are embedded in. `digest` is the
    bundle's, or the backbone's fingerprint for `none`. The engine's slot is given back when the last reference to it is
    gone, so that a request that still holds an old value is answered by the old weights.
    """

    domain: str
    born: str
    version: Version
    digest: str
    index_generation: int
    items: LiveItems
    engine: Engine
    slot: Slot
    adapter_bytes: int
    dtype: Dtype

    def encode(self, histories: Sequence[Sequence[int]]) -> Floats:
        """Encode histories, given as rows of the items, to user vectors [B, d]; safe from any thread."""
        return self.engine.encode([History(rows, self.slot, self.items) for rows in histories])

    def memory(self) -> dict[str, int]:
        """Bytes that this value adds to the process, by part."""
        return {"adapter": self.adapter_bytes, **self.items.memory()}


@dataclass(frozen=True, slots=True)
class Standing:
    """The live value of a domain, the one before it, kept warm for a rollback, and a canary for some of the users.

    `pinned` are the values of pinned versions, which may be those as well.
    """

    live: LiveDomain
    previous: LiveDomain | None = None
    canary: LiveDomain | None = None
    percent: int = 0
    pinned: tuple[LiveDomain, ...] = ()

    @property
    def warm(self) -> list[LiveDomain]:
        """All that can answer, the live value first."""
        values = [value for value in (self.live, self.canary, self.previous, *self.pinned) if value is not None]
        return list({id(value): value for value in values}.values())

    def serving(self, version: Version | str) -> LiveDomain:
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
            f"{self.live.domain} can answer from versions {there} now, not from {version}: activate or pin it first"
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
class Rested:
    """What stays in memory of a domain that rests.

    `slots`: by digest and dtype, its adapters in their slots, and their bytes. `standing`: what it answered from,
    without pages; None where that was more than mapped files, or something was heard of the domain since.
    """

    slots: Mapping[tuple[str, Dtype], tuple[Slot, int]]
    standing: Standing | None = None


class LiveTable:
    """All live values by domain. Reading takes no lock: a standing is replaced, never changed.

    A domain that rests is not in memory and can be brought back: `wake` does. Of those that rest the last `most_kept`
    keep what they answered from, since each holds maps of the process.
    """

    def __init__(self, exists: Callable[[str], object], most_kept: int = 1000) -> None:
        self._standings: dict[str, Standing] = {}
        self._waiting: dict[str, str | ServiceError] = {}
        self._resting: dict[str, Rested] = {}
        self._asked: dict[str, None] = {}
        self._sizes: dict[str, int] = {}
        self._changing = threading.Lock()
        self._exists, self._most_kept = exists, most_kept
        self._kept: dict[str, None] = {}
        self.bytes = 0
        self.wake: Callable[[str], Standing | None] = self._standings.get

    def get(self, domain: str) -> Standing:
        """Return where a domain stands; one that rests is brought back.

        Raises:
            DomainNotFound: it does not exist; DomainLoading: it will soon answer; another ServiceError: it cannot.
        """
        standing = self.asked(domain)
        if standing is None and domain in self._resting:
            standing = self.wake(domain)
        if standing is None:
            self._exists(domain)
            why = self._waiting.get(domain, "being made ready")
            raise DomainLoading(domain, why) if isinstance(why, str) else why
        return standing

    def find(self, domain: str) -> Standing | None:
        """Return where a domain stands, None where it is not in memory."""
        return self._standings.get(domain)

    def asked(self, domain: str) -> Standing | None:
        """Return where a domain stands, None where it is not in memory; it stays longer than what nobody asks for."""
        standing = self._standings.get(domain)
        if standing is not None:
            self._asked.pop(domain, None)  # so that the one that was asked for longest ago comes first
            self._asked[domain] = None
        return standing

    def knows(self, domain: str) -> bool:
        """Whether a domain answers, will soon, or is known to be broken."""
        return domain in self._standings or domain in self._waiting or domain in self._resting

    def rests(self, domain: str) -> bool:
        """Whether a domain is to be brought back before it answers."""
        return domain in self._resting

    def kept(self, domain: str) -> Rested:
        """Return what is kept of a domain that rests."""
        return self._resting.get(domain, Rested({}))

    def idlest(self, besides: str) -> str | None:
        """Name the domain that was asked for longest ago; None where all others are pinned."""
        for name in list(self._asked):
            standing = self._standings.get(name)
            if standing is not None and name != besides and not standing.pinned:
                return name
        return None

    def _keep_last(self, domain: str) -> None:
        self._kept.pop(domain, None)
        self._kept[domain] = None
        while len(self._kept) > self._most_kept:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            if oldest in self._resting:
                self._resting[oldest] = Rested(self._resting[oldest].slots)

    def revive(self, domain: str) -> Standing | None:
        """Let a domain that rests answer again from what it answered from; None where there may be something newer."""
        with self._changing:
            rested = self._resting.get(domain)
            if rested is None or rested.standing is None or rested.standing.is_cut():
                return None
            self._publish(domain, rested.standing)
        return rested.standing

    def spoil(self, domain: str) -> bool:
        """Let go of what a domain that rests answered from, since something was heard of it; whether it rests."""
        with self._changing:
            rested = self._resting.get(domain)
            if rested is not None:
                self._resting[domain] = Rested(rested.slots)
        return rested is not None

    def publish(self, standing: Standing) -> None:
        """Make a value live: one assignment."""
        with self._changing:
            self._publish(standing.live.domain, standing)

    def _publish(self, domain: str, standing: Standing) -> None:
        self._standings[domain] = standing
        self._waiting.pop(domain, None)
        self._resting.pop(domain, None)
        self._asked.setdefault(domain)
        self._resize(domain, standing.nbytes)

    def rest(self, domain: str) -> bool:
        """Let go of what a domain answers from, save its adapters; whether it was in memory."""
        with self._changing:
            standing = self._standings.get(domain)
            if standing is None:
                self._resting.setdefault(domain, Rested({}))
            else:
                slots = {(one.digest, one.dtype): (one.slot, one.adapter_bytes) for one in standing.warm}
                self._resting[domain] = Rested(slots, standing if standing.is_mapped else None)
                self._keep_last(domain)
            self._standings.pop(domain, None)
            self._waiting.pop(domain, None)
            self._asked.pop(domain, None)
            self._resize(domain, 0)
        if standing is not None:
            standing.forget_pages()
        return standing is not None

    def wait(self, domain: str, why: str | ServiceError) -> None:
        """Say why a domain does not answer yet."""
        self._waiting[domain] = why
        self._resting.pop(domain, None)

    def remove(self, domain: str) -> None:
        """Forget a domain."""
        with self._changing:
            for table in (self._standings, self._waiting, self._resting, self._asked):
                table.pop(domain, None)
            self._resize(domain, 0)

    def _resize(self, domain: str, size: int) -> None:
        self.bytes += size - self._sizes.pop(domain, 0)
        if size:
            self._sizes[domain] = size

    def all(self) -> list[Standing]:
        """Return every standing."""
        return list(self._standings.values())

    def names(self) -> set[str]:
        """Name every domain that answers, rests, will answer, or is broken."""
        return {*list(self._standings), *list(self._resting), *list(self._waiting)}

    @property
    def resting(self) -> list[str]:
        """Domains that are brought back when somebody asks."""
        return list(self._resting)

    @property
    def loading(self) -> dict[str, str]:
        """Domains that will soon answer, and what they wait for."""
        return {name: why for name, why in list(self._waiting.items()) if isinstance(why, str)}

    @property
    def broken(self) -> dict[str, str]:
        """Domains that cannot answer until somebody acts, and why."""
        return {name: why.detail for name, why in list(self._waiting.items()) if isinstance(why, ServiceError)}
