"""The change feed in SQLite: a table that only grows at its end,
looked at thirty times a second.
"""

from __future__ import annotations

import sqlite3
import threading
import time

from service.state import EntryKind, FeedEntry
from service.state.feed import KEPT_ENTRIES, coalesced

POLL_S = 0.03


def append(db: sqlite3.Connection, kind: EntryKind, domain: str) -> None:
    """Append an entry and forget the oldest; the caller holds a transaction."""
    place = count_up(db, "feed")
    db.execute("INSERT INTO feed VALUES (?, ?, ?, ?)", (place, kind, domain, time.time()))
    db.execute("DELETE FROM feed WHERE place <= ?", (place - KEPT_ENTRIES,))


def count_up(db: sqlite3.Connection, counter: str) -> int:
    """Count up and return a counter; the caller holds a transaction."""
    db.execute("UPDATE counters SET value = value + 1 WHERE name = ?", (counter,))
    return int(db.execute("SELECT value FROM counters WHERE name = ?", (counter,)).fetchone()[0])


def end(db: sqlite3.Connection) -> str:
    """Return the position behind which nothing is."""
    return str(db.execute("SELECT value FROM counters WHERE name = 'feed'").fetchone()[0])


def follow(
    db: sqlite3.Connection, after: str, timeout_s: float, closing: threading.Event
) -> list[FeedEntry] | None:
    """Wait for entries behind a position; None where some of them were forgotten.

    Asking whether any other connection wrote something costs a fraction of asking for entries.
    """
    until = time.monotonic() + timeout_s
    seen = None
    while not closing.is_set():
        if (version := db.execute("PRAGMA data_version").fetchone()) != seen:
            seen = version
            found = _behind(db, int(after))
            if found is None or found:
                return found
        left = until - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(POLL_S, left))  # half the cost of waiting for `closing`
    return []


def _behind(db: sqlite3.Connection, after: int) -> list[FeedEntry] | None:
    """Read what lies behind a place. Places have no gaps, so that a missing one was forgotten."""
    query = (
        "SELECT value, place, kind, domain, at FROM counters LEFT JOIN feed ON place > ? WHERE name"
        " = 'feed'"
    )
    rows = db.execute(f"{query} ORDER BY place", (after,)).fetchall()
    found = [FeedEntry(str(row[1]), *row[2:]) for row in rows if row[1] is not None]
    return coalesced(found) if len(found) == rows[0][0] - after else None
