"""Items and catalogs in SQLite: what each statement
does inside a transaction that its caller holds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import DomainNotFound
from service.state import (
    MAX_CHANGES,
    ChangedItem,
    Changes,
    Deleted,
    Removals,
    StoredItem,
    Upserted,
    Visibility,
)
from service.state.sqlite.feed import append

IDS_PER_QUERY = 500
KEPT_TOMBSTONES = MAX_CHANGES
_FIELDS = "item_id, text, popularity, metadata, image, available"
_INSERT = (
    f"INSERT OR REPLACE INTO items (domain, row, changed, later, {_FIELDS})"  # noqa: S608 - constants
    f" VALUES ({', '.join('?' * 10)})"
)


@dataclass(frozen=True, slots=True)
class _CatalogHead:
    """The head of a catalog: its counters.

    What was deleted until generation `forgotten` may be unknown.
    """

    generation: int
    next_row: int
    incarnation: str
    forgotten: int

    def covers(self, since: int, incarnation: str) -> bool:
        """Whether every change of this incarnation's catalog after a generation is known."""
        return self.incarnation == incarnation and self.forgotten <= since <= self.generation


def missing(db: sqlite3.Connection, domain: str) -> DomainNotFound:
    """Return the error that names the domains that exist."""
    return DomainNotFound(domain, [row[0] for row in db.execute("SELECT name FROM domains")])


def check_incarnation(db: sqlite3.Connection, domain: str, incarnation: str) -> None:
    """Raise DomainNotFound where a domain is another incarnation than the given one; "" is any."""
    if (
        incarnation
        and db.execute(
            "SELECT 1 FROM domains WHERE name = ? AND born = ?", (domain, incarnation)
        ).fetchone()
        is None
    ):
        raise missing(db, domain)


def known(db: sqlite3.Connection, domain: str, ids: list[str]) -> dict[str, tuple[int, StoredItem]]:
    """Return those of the items that exist, with their rows."""
    found: dict[str, tuple[int, StoredItem]] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        wanted = f"domain = ? AND item_id IN ({', '.join('?' * len(some))})"
        # Named, since without statistics SQLite would rather read the whole catalog for ten ids
        # (300 times slower).
        query = f"SELECT row, {_FIELDS} FROM items INDEXED BY items_by_id WHERE {wanted}"  # noqa: S608 - constants and marks
        found |= {row[1]: (row[0], _item(row[1:])) for row in db.execute(query, (domain, *some))}
    return found


def page(
    db: sqlite3.Connection, domain: str, after: int, limit: int
) -> list[tuple[int, StoredItem]]:
    """Return items with their rows, beginning behind row `after`."""
    query = f"SELECT row, {_FIELDS} FROM items WHERE domain = ? AND row > ? ORDER BY row LIMIT ?"  # noqa: S608 - constants
    return [(row[0], _item(row[1:])) for row in db.execute(query, (domain, after, limit))]


def upsert(
    db: sqlite3.Connection, domain: str, items: Sequence[StoredItem], visibility: Visibility
) -> Upserted:
    """Store items; the last of equal ids wins."""
    head = _read_head(db, domain)
    wanted = {item.item_id: item for item in items}
    there = known(db, domain, list(wanted))
    changed = [
        item for item in wanted.values() if item.item_id in there and there[item.item_id][1] != item
    ]
    fresh = [item for item in wanted.values() if item.item_id not in there]
    known_ones = (
        [item for item in wanted.values() if item.item_id in there]
        if visibility == "all"
        else changed
    )
    rows = [(there[item.item_id][0], item) for item in known_ones]
    rows += [(head.next_row + place, item) for place, item in enumerate(fresh)]
    generation = _store(db, domain, head, rows, later=visibility == "later")
    db.execute("UPDATE domains SET next_row = next_row + ? WHERE name = ?", (len(fresh), domain))
    return Upserted(len(fresh), len(changed), len(wanted) - len(fresh) - len(changed), generation)


def replace(
    db: sqlite3.Connection, domain: str, before: StoredItem, after: StoredItem
) -> Upserted | None:
    """Store an item in place of the one that its writer saw; None if that is no longer there."""
    head = _read_head(db, domain)
    row, found = known(db, domain, [before.item_id]).get(before.item_id, (0, None))
    if found != before:
        return None
    changed = after != before
    return Upserted(
        0, changed, not changed, _store(db, domain, head, [(row, after)] if changed else [])
    )


def delete(db: sqlite3.Connection, domain: str, ids: Sequence[str]) -> Deleted:
    """Remove items; their rows are remembered as deleted, the newest of them."""
    head = _read_head(db, domain)
    there = known(db, domain, list(dict.fromkeys(ids)))
    unknown = [item_id for item_id in dict.fromkeys(ids) if item_id not in there]
    if not there:
        return Deleted(0, unknown, head.generation)
    generation = head.generation + 1
    rows = [(domain, row, generation, item_id) for item_id, (row, _) in there.items()]
    db.executemany("DELETE FROM items WHERE domain = ? AND row = ?", [row[:2] for row in rows])
    db.executemany("INSERT INTO tombstones VALUES (?, ?, ?, ?)", rows)
    _changed(db, domain, generation)
    _forget(db, domain)
    return Deleted(len(rows), unknown, generation)


def changes(
    db: sqlite3.Connection, domain: str, since: int, incarnation: str, most: int
) -> Changes | None:
    """Return what changed after a generation; None where that is too much, or no longer known."""
    head = _read_head(db, domain)
    if not head.covers(since, incarnation):
        return None
    # Counted before they are read: whoever asks again and again during a large import must not pay
    # for it each time.
    query = (
        "SELECT 1 FROM items INDEXED BY items_by_change WHERE domain = ? AND later = ? AND changed"
        " > ? LIMIT 1 OFFSET ?"
    )
    if db.execute(query, (domain, 0, since, most)).fetchone() is not None:
        return None
    incomplete = db.execute(query, (domain, 1, since, 0)).fetchone() is not None
    query = """SELECT row, item_id, text, popularity, image, available
      FROM items INDEXED BY items_by_change
      WHERE domain = ? AND later = 0 AND changed > ? LIMIT ?"""
    found = db.execute(query, (domain, since, most + 1)).fetchall()
    query = """SELECT row, item_id FROM tombstones INDEXED BY tombstones_by_generation
      WHERE domain = ? AND generation > ? LIMIT ?"""
    deleted = sorted(db.execute(query, (domain, since, most + 1)))
    if len(found) + len(deleted) > most:
        return None
    upserted = [
        ChangedItem(*row) for row in sorted((*row, bool(available)) for *row, available in found)
    ]
    return Changes.of(head.generation, upserted, deleted, incomplete=incomplete)


def removals(db: sqlite3.Connection, domain: str, since: int, incarnation: str) -> Removals | None:
    """Return what was deleted after a generation,
    or is not available; None where some of it is no longer known.
    """
    head = _read_head(db, domain)
    if not head.covers(since, incarnation):
        return None
    query = """SELECT DISTINCT item_id FROM tombstones INDEXED BY tombstones_by_generation
      WHERE domain = ? AND generation > ?"""
    deleted = [row[0] for row in db.execute(query, (domain, since))]
    there = known(db, domain, deleted)
    query = (
        "SELECT item_id FROM items INDEXED BY items_hidden WHERE domain = ? AND changed > ? AND NOT"
        " available"
    )
    unavailable = [row[0] for row in db.execute(query, (domain, since))]
    return Removals(
        head.generation, [item_id for item_id in deleted if item_id not in there], unavailable
    )


def generation(db: sqlite3.Connection, domain: str) -> int:
    """Return how often a catalog has changed."""
    return _read_head(db, domain).generation


def _read_head(db: sqlite3.Connection, domain: str) -> _CatalogHead:
    query = "SELECT generation, next_row, born, forgotten FROM domains WHERE name = ?"
    found = db.execute(query, (domain,)).fetchone()
    if found is None:
        raise missing(db, domain)
    return _CatalogHead(*found)


def _store(
    db: sqlite3.Connection,
    domain: str,
    head: _CatalogHead,
    rows: Sequence[tuple[int, StoredItem]],
    *,
    later: bool = False,
) -> int:
    """Write items into their rows; returns the generation, which counts up if there are any."""
    if not rows:
        return head.generation
    generation = head.generation + 1
    db.executemany(
        _INSERT, [(domain, row, generation, later, *_columns(item)) for row, item in rows]
    )
    _changed(db, domain, generation)
    return generation


def _changed(db: sqlite3.Connection, domain: str, generation: int) -> None:
    db.execute("UPDATE domains SET generation = ? WHERE name = ?", (generation, domain))
    append(db, "items", domain)


def _forget(db: sqlite3.Connection, domain: str) -> None:
    """Drop the oldest generations of tombstones beyond those that are kept."""
    query = (
        "SELECT generation FROM tombstones WHERE domain = ? ORDER BY generation DESC LIMIT 1"
        " OFFSET ?"
    )
    if oldest := db.execute(query, (domain, KEPT_TOMBSTONES)).fetchone():
        db.execute("DELETE FROM tombstones WHERE domain = ? AND generation <= ?", (domain, *oldest))
        db.execute("UPDATE domains SET forgotten = ? WHERE name = ?", (*oldest, domain))


def _columns(item: StoredItem) -> tuple[str, str, float, str, str, bool]:
    metadata = json.dumps(item.metadata, sort_keys=True, ensure_ascii=False)
    return item.item_id, item.text, item.popularity, metadata, item.image, item.available


def _item(row: Sequence[Any]) -> StoredItem:
    return StoredItem(row[0], row[1], row[2], json.loads(row[3]), row[4], bool(row[5]))
