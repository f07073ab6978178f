"""State: what must survive the process and, with a shared backend, what processes share.

One Protocol.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

ENDED = ("succeeded", "failed", "cancelled")
RETAINED_JOBS = 100
"""Jobs of a domain that are kept; older ones are removed once they ended."""
MAX_CHANGES = 50_000
"""Maximum rows of one change report; after more changes, reading the whole catalog is quicker."""

EntryKind = Literal["domain", "gone", "items", "standing", "probes", "job"]
"""What an entry of the feed is about. The log of activations is called "standing" in stored
entries.

A domain was created or changed, or is gone; its items or probes changed; the store's activation log
did; a job of it was created, given back or cancelled, or ended.
"""


Visibility = Literal["changed", "all", "later"]
"""Which rows of an upsert the change log reports: only new and modified ones, all of them
(unchanged rows may have come with `later`), or none until the next base (bulk imports)."""


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """A domain: its name, the fingerprint of its backbone, a title for people.

    `incarnation`, which the state gives, tells it from an earlier one of its name. The SQL column
    and the Redis field are named "born": they were written before, and stay.
    """

    name: str
    backbone: str
    title: str = ""
    created_at: str = ""
    incarnation: str = field(default="", compare=False)

    @property
    def mark(self) -> str:
        """Return what files of this domain are named by,
        and those of another one of its name are not.
        """
        return hashlib.blake2b(self.incarnation.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item of a catalog.

    `text` and `image`, the digest of a picture that is kept, are what is embedded; either may be
    empty. `popularity` orders the fallback, `metadata` is the rest. One that is not `available`
    stays known to histories and is never recommended.
    """

    item_id: str
    text: str
    popularity: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    image: str = ""
    available: bool = True


@dataclass(frozen=True, slots=True)
class Upserted:
    """What an upsert did, in items; `generation` counts the catalog's changes."""

    accepted: int
    updated: int
    unchanged: int
    generation: int

    def and_then(self, other: Upserted) -> Upserted:
        """Return what this one and a later one did together."""
        accepted = self.accepted + other.accepted
        updated = self.updated + other.updated
        return Upserted(accepted, updated, self.unchanged + other.unchanged, other.generation)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did; `unknown` are the ids that
    the catalog does not have, as they were given.
    """

    deleted: int
    unknown: list[str]
    generation: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A held-out history, oldest first, and the item that came next."""

    history: list[str]
    target: str


@dataclass(frozen=True, slots=True)
class ChangedItem:
    """An item as it is now, without its metadata."""

    row: int
    item_id: str
    text: str
    popularity: float
    image: str
    available: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of a catalog's items until `generation`: every id once, with its final fate, in
    the order of rows.

    An item that was deleted and added again is upserted, in a new row: the one in which a reader
    knew it is to be dropped. `deleted` are rows and ids; some of them their reader may never have
    seen. `incomplete`: more was changed, which the next base reports (see `Visibility`).
    """

    generation: int
    upserted: list[ChangedItem]
    deleted: list[tuple[int, str]]
    incomplete: bool = False

    @classmethod
    def of(
        cls,
        generation: int,
        upserted: list[ChangedItem],
        deleted: Iterable[tuple[int, str]],
        *,
        incomplete: bool = False,
    ) -> Changes:
        """Name of the rows and ids that were deleted,
        in the order of rows, those ids that did not come back.
        """
        there = {item.item_id for item in upserted}
        first = dict[str, int]()
        for row, item_id in deleted:
            if item_id not in there:
                first.setdefault(item_id, row)
        return cls(
            generation, upserted, [(row, item_id) for item_id, row in first.items()], incomplete
        )


@dataclass(frozen=True, slots=True)
class Removals:
    """Ids that were deleted, and are not there again at `generation`, and ids that are not
    available any more.

    Their reader may never have seen some of them.
    """

    generation: int
    deleted: list[str]
    unavailable: list[str]


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One word of the feed: look at this domain again.

    `position` is where to follow on; `at` is when it was written, in seconds of Unix time by the
    clock of the state. Of equal entries a reader gets the last position and the earliest time.
    """

    position: str
    kind: EntryKind
    domain: str
    at: float


@dataclass(frozen=True, slots=True)
class JobRecord:
    """Work that outlives its request. Status: queued, running, succeeded, failed, cancelled.

    `owner` and `token` are of its newest claim; a token of 0 is none. `cancelling` asks the owner
    to stop. `eta_s` are the seconds that its stage will take at its pace until now.
    """

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
    owner: str = ""
    token: int = 0
    cancelling: bool = False
    eta_s: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for people; who holds it with which token is between processes."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("owner", "token")
        }


def probes_text(probes: Sequence[Probe]) -> str:
    """Write probes as backends keep them."""
    return json.dumps([[*probe.history, probe.target] for probe in probes], ensure_ascii=False)


def read_probes(text: str | bytes) -> list[Probe]:
    """Read what `probes_text` wrote."""
    return [Probe(history, target) for *history, target in json.loads(text)]


class State(Protocol):
    """What every backend does. All writes are durable when the call returns, or raise and change
    nothing.

    A shared backend may also raise StateUnavailable: it does not answer now. A read is then to be
    tried again; of a write it is unknown whether it was done, and doing it again is safe.
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

    def upsert_items(
        self,
        domain: str,
        items: Sequence[StoredItem],
        visibility: Visibility = "changed",
        incarnation: str = "",
    ) -> Upserted:
        """Store items in one transaction; the last of equal ids wins.

        Raises:
            DomainNotFound: also where `incarnation` is given and the domain is a later one of its
                name.
        """
        ...

    def delete_items(self, domain: str, ids: Sequence[str]) -> Deleted:
        """Remove items in one transaction; their rows stay empty for ever.

        Raises DomainNotFound.
        """
        ...

    def replace_item(
        self, domain: str, before: StoredItem, after: StoredItem, incarnation: str = ""
    ) -> Upserted | None:
        """Store `after`, of the same id, unless the stored item is no longer `before`: then None.

        Raises:
            DomainNotFound: as `upsert_items`.
        """
        ...

    def changes(
        self, domain: str, since: int, incarnation: str, most: int = MAX_CHANGES
    ) -> Changes | None:
        """Return what changed after generation `since` of the domain that was `incarnation` so.

        `incarnation` tells a domain from an earlier one of its name, whose generations count anew.

        Rows that were stored as `later` are left out. None where the rest is more than `most` rows,
        or was forgotten, or it is another domain now: read the catalog anew. Raises DomainNotFound.
        """
        ...

    def removals(self, domain: str, since: int, incarnation: str) -> Removals | None:
        """Return the removals after a generation: deleted and unavailable ids, however much else
        changed.

        None where some of it was forgotten (the last `MAX_CHANGES` deleted ids are kept), or it is
        another domain now. Raises DomainNotFound.
        """
        ...

    def generation(self, domain: str) -> int:
        """Return how often a catalog has changed; raises DomainNotFound."""
        ...

    def items_by_id(self, domain: str, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Return those of the items that exist."""
        ...

    def list_items(self, domain: str, after: int, limit: int) -> list[tuple[int, StoredItem]]:
        """Return items with their rows, beginning behind row `after`."""
        ...

    def count_items(self, domain: str) -> int:
        """Return the size of the catalog."""
        ...

    def put_probes(self, domain: str, probes: Sequence[Probe], incarnation: str = "") -> None:
        """Replace the domain's probes; raises DomainNotFound, as `upsert_items`."""
        ...

    def probes(self, domain: str) -> list[Probe]:
        """Return the domain's probes; raises DomainNotFound."""
        ...

    def create_job(
        self,
        kind: str,
        domain: str,
        detail: dict[str, Any],
        result: dict[str, Any] | None = None,
        incarnation: str = "",
    ) -> JobRecord:
        """Store a queued job; with a result, one that has succeeded.

        Of the domain's jobs that ended, those that are older than its last `RETAINED_JOBS` jobs are
        removed.

        Raises:
            DomainNotFound: `incarnation` is given, and the domain is gone or a later one of its
                name.
        """
        ...

    def update_job(self, job_id: str, *, token: int | None = None, **changes: Any) -> JobRecord:
        """Change fields of a job; a status that ends it also ends its lease.

        Raises:
            JobNotFound; JobTaken: a token was given and is no longer the job's. Nothing was
                changed.
        """
        ...

    def claim_job(self, owner: str, lease_s: float) -> JobRecord | None:
        """Take a job that nobody holds and set it running; None while there is none.

        Only the first job of a domain that has not ended can be claimed, so that they run one after
        the other. Of the domains that have one, the one served longest ago is next. The token is
        larger than any before. A job whose lease ran out is claimed again as it stands, also with
        `cancelling` set.
        """
        ...

    def renew_job(self, job_id: str, token: int, lease_s: float) -> JobRecord:
        """Hold a job for another `lease_s` seconds from now; returns it, so that its owner sees
        `cancelling`.

        A lease that ran out is renewed as long as nobody else claimed the job.

        Raises:
            JobNotFound; JobTaken: it was claimed again, given back, or has ended.
        """
        ...

    def release_job(self, job_id: str, token: int) -> JobRecord:
        """Give a job back, queued again, for the next to claim; the token is worth nothing from
        here on.

        Raises:
            JobNotFound; JobTaken.
        """
        ...

    def cancel_job(self, job_id: str) -> JobRecord:
        """End a queued job as cancelled; ask the owner of a running one to stop.

        Raises:
            JobNotFound; RequestConflict: it has ended.
        """
        ...

    def holds(self, domain: str, token: int) -> bool:
        """Whether this token's claim is still the domain's and its lease alive;
        to ask before a decisive write.
        """
        ...

    def get_job(self, job_id: str) -> JobRecord:
        """Return a job; raises JobNotFound."""
        ...

    def jobs(self, domain: str | None = None, limit: int = 100) -> list[JobRecord]:
        """Return jobs, newest first."""
        ...

    def open_jobs(self) -> list[JobRecord]:
        """Return the jobs of all domains that have not ended, oldest first."""
        ...

    def count_open_jobs(self, domain: str) -> int:
        """Count the jobs of a domain that have not ended."""
        ...

    def announce(self, kind: EntryKind, domain: str) -> None:
        """Tell all who follow the feed of something that was written elsewhere."""
        ...

    def feed_end(self) -> str:
        """Return the feed's position now: nothing before it is behind it."""
        ...

    def follow(self, after: str, timeout_s: float) -> list[FeedEntry] | None:
        """Wait for entries behind a position; none when the time is over or the state is closed.

        None where some were forgotten, or the position is not this feed's: begin at `feed_end` and
        look at everything.
        """
        ...

    def trouble(self) -> str | None:
        """Return why state cannot be used now,
        None while it can; asks nobody, so that it costs nothing.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return which backend this is and how it stands, for people."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
