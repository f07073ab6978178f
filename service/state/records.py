"""Records: what a state is given and gives back, as frozen values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
