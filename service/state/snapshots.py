"""Catalog snapshots: Parquet beside the store, so that a state that is lost does not take the
catalogs with it.

A snapshot is a file of items, named by the generation and the domain's birth, and a card that names
the file and its digest. It is written beside, and the card last: a crash leaves the old snapshot or
the new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from adapters_store.clock import now
from adapters_store.files import (
    PART,
    atomic_file,
    atomic_write,
    digest_of,
    room_or_error,
    sync_folder,
)
from service.errors import DomainNotFound, StateError
from service.state import (
    Catalogs,
    DomainRecord,
    Items,
    Probe,
    StoredItem,
    probes_text,
    read_probes,
)
from service.state.fence import fence

PAGE_ITEMS = 5000
CARD = "snapshot.json"
_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("text", pa.string()),
        ("popularity", pa.float64()),
        ("metadata", pa.string()),
        ("image", pa.string()),
        ("available", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot is of: a domain's catalog,
    which had at least every change up to `generation` at `taken_at`.
    """

    domain: str
    backbone: str
    title: str
    generation: int
    items: int
    taken_at: str
    file: str
    digest: str
    probes: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a card.

        Raises:
            StateError: it is none.
        """
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StateError(f"{path} is no card of a snapshot: {error}") from error


class Snapshots:
    """One snapshot a domain in `<data>/snapshots/<domain>/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, state: Catalogs, record: DomainRecord, generation: int) -> Snapshot:
        """Write a snapshot of a catalog in place of the one before.

        Args:
            state: where the items are; read in pages.
            record: the domain.
            generation: the catalog's, read before: what changes meanwhile may be in it as well.

        Raises:
            DomainNotFound, StateUnavailable, OutOfSpace: the snapshot before stays.
        """
        home = self._folder / record.name
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob(f"*{PART}"):  # of a process that was killed
            left.unlink(missing_ok=True)
        path = home / f"{generation}-{record.mark}.parquet"
        with room_or_error(home), atomic_file(path) as part:
            count = _write(part, _pages(state, record.name))
        probes = probes_text(state.probes(record.name))
        about = (
            record.name,
            record.backbone,
            record.title,
            generation,
            count,
            now(),
            path.name,
            digest_of(path),
            probes,
        )
        card = Snapshot(*about)
        atomic_write(home / CARD, json.dumps(asdict(card)).encode())
        for other in home.glob("*.parquet"):
            if other != path:
                other.unlink(missing_ok=True)
        sync_folder(home)
        try:
            fence(state, record)()
        except DomainNotFound:  # removed meanwhile: a restore must not bring it back
            self._take_back(card)
            raise
        return card

    def _take_back(self, card: Snapshot) -> None:
        home = self._folder / card.domain
        (home / card.file).unlink(missing_ok=True)
        with suppress(StateError):
            if Snapshot.read(home / CARD).file == card.file:
                (home / CARD).unlink(missing_ok=True)
        with suppress(OSError):  # another one is there
            home.rmdir()

    def generation(self, record: DomainRecord) -> int:
        """Return the generation of a domain's snapshot,
        -1 without one; one of an earlier domain is none.
        """
        path = self._folder / record.name / CARD
        if not path.exists():
            return -1
        card = Snapshot.read(path)
        return card.generation if card.file == f"{card.generation}-{record.mark}.parquet" else -1

    def all(self) -> list[Snapshot]:
        """Return every snapshot, by domain.

        Raises:
            StateError: a card is damaged.
        """
        return [Snapshot.read(path) for path in sorted(self._folder.glob(f"*/{CARD}"))]

    def items(self, card: Snapshot) -> Iterator[list[StoredItem]]:
        """Yield a snapshot's items in pages, in the order of the catalog.

        Raises:
            StateError: the file is not the one that was written.
        """
        path = self._folder / card.domain / card.file
        if not path.exists() or digest_of(path) != card.digest:
            raise StateError(
                f"{path} is not the snapshot that its card names: it cannot be restored"
            )
        for batch in pq.ParquetFile(path).iter_batches(PAGE_ITEMS):
            yield [_item(row) for row in batch.to_pylist()]

    def images(self, card: Snapshot) -> Iterator[str]:
        """Yield the digests of the pictures that a snapshot names; its file is not verified.

        Raises:
            OSError, ValueError: the file cannot be read.
        """
        for batch in pq.ParquetFile(self._folder / card.domain / card.file).iter_batches(
            PAGE_ITEMS, columns=["image"]
        ):
            yield from filter(None, batch.column("image").to_pylist())

    def forget(self, domain: str) -> None:
        """Remove a domain's snapshot."""
        home = self._folder / domain
        for path in home.glob("*"):
            path.unlink(missing_ok=True)
        # Not there, or one is being taken, which sees that the domain is gone.
        with suppress(OSError):
            home.rmdir()


def restore(snapshots: Snapshots, state: Catalogs, card: Snapshot) -> int:
    """Put a domain of a snapshot into a state that lacks it; returns the items.

    Raises:
        StateError: the snapshot is damaged, or the state has the domain; nothing is left of it.
    """
    if any(record.name == card.domain for record in state.domains()):
        raise StateError(f"domain {card.domain!r} is in the state: it is left as it is")
    state.put_domain(DomainRecord(card.domain, card.backbone, card.title))
    count = 0
    try:
        for items in snapshots.items(card):
            state.upsert_items(card.domain, items)
            count += len(items)
        probes: list[Probe] = read_probes(card.probes)
        state.put_probes(card.domain, probes)
    except BaseException:
        state.delete_domain(card.domain)
        raise
    return count


def _pages(state: Items, domain: str) -> Iterator[list[StoredItem]]:
    after = -1
    while found := state.list_items(domain, after, PAGE_ITEMS):
        yield [item for _, item in found]
        after = found[-1][0]


def _write(path: Path, pages: Iterator[list[StoredItem]]) -> int:
    count = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for items in pages:
            writer.write_table(pa.Table.from_pylist([_row(item) for item in items], _SCHEMA))
            count += len(items)
    return count


def _row(item: StoredItem) -> dict[str, Any]:
    return {name: getattr(item, name) for name in _SCHEMA.names} | {
        "metadata": json.dumps(item.metadata, ensure_ascii=False)
    }


def _item(row: dict[str, Any]) -> StoredItem:
    return StoredItem(**row | {"metadata": json.loads(row["metadata"])})
