"""What domains answer from: one frozen value a domain, published by one assignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from service.engine import Engine, Floats, History
from service.errors import DomainLoading, ServiceError, VersionNotServable
from service.live_items import LiveItems
from service.slots import Slot
from transrec.backbone import Dtype

NONE: Final = "none"

Version = int | None
"""None is `none`, the frozen backbone."""


def version_name(version: Version) -> int | Literal["none"]:
    """How a version is written in answers."""
    return NONE if version is None else version


@dataclass(frozen=True, slots=True, eq=False)
class LiveDomain:
    """A version of a domain, ready to answer. Nothing in it ever changes.

    `dtype` is what its items are embedded in. `digest` is the bundle's, or the backbone's fingerprint for `none`. The
    engine's slot is given back when the last reference to it is gone, so that a request that still holds an old value
    is answered by the old weights.
    """

    domain: str
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
    """The live value of a domain, the one before it, kept warm for a rollback, and a canary for some of the users."""

    live: LiveDomain
    previous: LiveDomain | None = None
    canary: LiveDomain | None = None
    percent: int = 0

    def without(self, ids: Sequence[str]) -> Standing:
        """Return the standing with items gone from all its values."""
        live, previous, canary = (
            value and replace(value, items=value.items.without(ids))
            for value in (self.live, self.previous, self.canary)
        )
        return Standing(live or self.live, previous, canary, self.percent)

    @property
    def warm(self) -> list[LiveDomain]:
        """All that can answer, the live value first."""
        return [value for value in (self.live, self.canary, self.previous) if value is not None]


class LiveTable:
    """All live values by domain. Reading takes no lock: a standing is replaced, never changed."""

    def __init__(self, exists: Callable[[str], object]) -> None:
        self._standings: dict[str, Standing] = {}
        self._waiting: dict[str, str | ServiceError] = {}
        self._exists = exists

    def get(self, domain: str) -> Standing:
        """Return where a domain stands.

        Raises:
            DomainNotFound: it does not exist; DomainLoading: it will soon answer; another ServiceError: it cannot.
        """
        standing = self._standings.get(domain)
        if standing is None:
            self._exists(domain)
            why = self._waiting.get(domain, "being made ready")
            raise DomainLoading(domain, why) if isinstance(why, str) else why
        return standing

    def find(self, domain: str) -> Standing | None:
        """Return where a domain stands, None while it does not."""
        return self._standings.get(domain)

    def knows(self, domain: str) -> bool:
        """Whether a domain answers, will soon, or is known to be broken."""
        return domain in self._standings or domain in self._waiting

    def serving(self, domain: str, version: Version | str) -> LiveDomain:
        """Return the value of a version that a request pins.

        Raises:
            VersionNotServable: neither live nor kept warm.
        """
        standing = self.get(domain)
        wanted = None if version == NONE else version
        for value in standing.warm:
            if value.version == wanted:
                return value
        there = ", ".join(str(version_name(value.version)) for value in standing.warm)
        raise VersionNotServable(
            f"{domain} can answer from versions {there} now, not from {version}: activate it first"
        )

    def publish(self, standing: Standing) -> None:
        """Make a value live: one assignment."""
        self._standings[standing.live.domain] = standing
        self._waiting.pop(standing.live.domain, None)

    def wait(self, domain: str, why: str | ServiceError) -> None:
        """Say why a domain does not answer yet."""
        self._waiting[domain] = why

    def remove(self, domain: str) -> None:
        """Forget a domain."""
        self._standings.pop(domain, None)
        self._waiting.pop(domain, None)

    def all(self) -> list[Standing]:
        """Return every standing."""
        return list(self._standings.values())

    def names(self) -> set[str]:
        """Name every domain that answers, will, or is broken."""
        return {*list(self._standings), *list(self._waiting)}

    @property
    def loading(self) -> dict[str, str]:
        """Domains that will soon answer, and what they wait for."""
        return {name: why for name, why in list(self._waiting.items()) if isinstance(why, str)}

    @property
    def broken(self) -> dict[str, str]:
        """Domains that cannot answer until somebody acts, and why."""
        return {name: why.detail for name, why in list(self._waiting.items()) if isinstance(why, ServiceError)}
