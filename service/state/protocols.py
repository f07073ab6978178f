"""What a state can do, in five Protocols by concern, and what composes them.

Each backend implements all five. Consumers name the narrowest Protocol that they need.

All writes are durable when the call returns, or raise and change nothing. A shared backend may also
raise StateUnavailable: it does not answer now. A read is then to be tried again; of a write it is
unknown whether it was done, and doing it again is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from service.state.records import (
    MAX_CHANGES,
    Changes,
    Deleted,
    DomainRecord,
    EntryKind,
    FeedEntry,
    JobRecord,
    Probe,
    Removals,
    StoredItem,
    Upserted,
    Visibility,
)


class Domains(Protocol):
    """The domains that exist."""

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


class Items(Protocol):
    """The catalogs of domains: their items, each in a row, and what changed of them."""

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


class Probes(Protocol):
    """The probes of domains: held-out histories that a gate asks."""

    def put_probes(self, domain: str, probes: Sequence[Probe], incarnation: str = "") -> None:
        """Replace the domain's probes; raises DomainNotFound, as `upsert_items`."""
        ...

    def probes(self, domain: str) -> list[Probe]:
        """Return the domain's probes; raises DomainNotFound."""
        ...


class JobQueue(Protocol):
    """Jobs: stored, claimed by one process at a time (lease, fencing token), and ended."""

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


class Feed(Protocol):
    """The feed: ordered entries that tell every process which domain to look at again."""

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


class Catalogs(Domains, Items, Probes, Protocol):
    """Domains with all that is kept of each."""


class CatalogJobs(Catalogs, JobQueue, Protocol):
    """Catalogs, and the jobs that fill them."""


class DomainFeed(Domains, Feed, Protocol):
    """Domains, and the feed of what happens to them."""


class State(Catalogs, JobQueue, Feed, Protocol):
    """All of it, and how the backend itself stands: for whoever opens and closes it."""

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
