"""State: what must survive the process and, with a shared backend, what processes share. One Protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """A domain: its name, the fingerprint of its backbone, a title for people."""

    name: str
    backbone: str
    title: str = ""
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a catalog.

    `text` and `image`, the digest of a picture that is kept, are what is embedded; either may be empty. `popularity`
    orders the fallback, `metadata` is the rest.
    """

    item_id: str
    text: str
    popularity: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    image: str = ""


@dataclass(frozen=True, slots=True)
class Upserted:
    """What an upsert did, in items; `generation` counts the catalog's changes."""

    accepted: int
    updated: int
    unchanged: int
    generation: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A held-out history, oldest first, and the item that came next."""

    history: list[str]
    target: str


@dataclass(frozen=True, slots=True)
class CatalogRows:
    """A catalog in row order; rows are never reordered, new items come last."""

    generation: int
    ids: list[str]
    texts: list[str]
    popularity: list[float]
    images: list[str]


@dataclass(frozen=True, slots=True)
class Job:
    """Work that outlives its request. Status: queued, running, succeeded, failed."""

    id: str
    kind: str
    domain: str
    detail: dict[str, Any]
    status: str = "queued"
    stage: str = ""
    done: int = 0
    total: int = 0
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    created_at: str = ""
    updated_at: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("succeeded", "failed")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def probes_text(probes: Sequence[Probe]) -> str:
    """Write probes as backends keep them."""
    return json.dumps([[*probe.history, probe.target] for probe in probes], ensure_ascii=False)


def read_probes(text: str | bytes) -> list[Probe]:
    """Read what `probes_text` wrote."""
    return [Probe(history, target) for *history, target in json.loads(text)]


class State(Protocol):
    """What every backend does. All writes are durable when the call returns, or raise and change nothing.

    A shared backend may also raise StateUnavailable: it does not answer now. A read is then to be tried again; of a
    write it is unknown whether it was done, and doing it again is safe.
    """

    def put_domain(self, record: DomainRecord) -> bool:
        """Create a domain or change its title; return whether it was created."""
        ...

    def get_domain(self, name: str) -> DomainRecord:
        """Return a domain; raises DomainNotFound."""
        ...

    def domains(self) -> list[DomainRecord]:
        """Return all domains by name."""
        ...

    def delete_domain(self, name: str) -> None:
        """Remove a domain with its items and jobs; raises DomainNotFound."""
        ...

    def upsert_items(self, domain: str, items: Sequence[Item]) -> Upserted:
        """Store items in one transaction; the last of equal ids wins. Raises DomainNotFound."""
        ...

    def catalog(self, domain: str) -> CatalogRows:
        """Return a consistent view of the whole catalog; raises DomainNotFound."""
        ...

    def items_by_id(self, domain: str, ids: Sequence[str]) -> dict[str, Item]:
        """Return those of the items that exist."""
        ...

    def list_items(self, domain: str, after: int, limit: int) -> list[tuple[int, Item]]:
        """Return items with their rows, beginning behind row `after`."""
        ...

    def count_items(self, domain: str) -> int:
        """Return the size of the catalog."""
        ...

    def put_probes(self, domain: str, probes: Sequence[Probe]) -> None:
        """Replace the domain's probes; raises DomainNotFound."""
        ...

    def probes(self, domain: str) -> list[Probe]:
        """Return the domain's probes; raises DomainNotFound."""
        ...

    def next_index_generation(self, domain: str) -> int:
        """Count up and return the domain's index generation."""
        ...

    def create_job(self, kind: str, domain: str, detail: dict[str, Any]) -> Job:
        """Store a queued job."""
        ...

    def update_job(self, job_id: str, **changes: Any) -> Job:
        """Change fields of a job; raises JobNotFound."""
        ...

    def get_job(self, job_id: str) -> Job:
        """Return a job; raises JobNotFound."""
        ...

    def jobs(self, domain: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, newest first."""
        ...

    def trouble(self) -> str | None:
        """Return why state cannot be used now, None while it can; asks nobody, so that it costs nothing."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return which backend this is and how it stands, for people."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
