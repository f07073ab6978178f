"""The change feed in Redis: a stream whose entries are numbered without gaps."""

from __future__ import annotations

import time
from typing import Any

from service.state import EntryKind, FeedEntry
from service.state.feed import coalesced
from service.state.redis import scripts
from service.state.redis.keys import FEED, FEED_COUNT
from service.state.redis.link import Link


def announce(link: Link, kind: EntryKind, domain: str) -> None:
    """Append an entry."""
    link.write(scripts.ANNOUNCE, [], kind, domain)


def end(link: Link) -> str:
    """Return the position behind which nothing is."""
    [count] = link.read(lambda pipe: pipe.get(FEED_COUNT))
    return str(int(count or 0))


def follow(link: Link, after: str, timeout_s: float) -> list[FeedEntry] | None:
    """Wait for entries behind a position; None where some of them were forgotten."""
    until = time.monotonic() + timeout_s
    while not link.closing:
        found = _behind(link, int(after))
        left = until - time.monotonic()
        if found is None or found or left <= 0:
            return found
        link.wait(FEED, f"{after}-0", left)
    return []


def _behind(link: Link, after: int) -> list[FeedEntry] | None:
    def ask(pipe: Any) -> None:
        pipe.get(FEED_COUNT)
        pipe.xrange(FEED, f"({after}-0", "+")

    count, found = link.read(ask)
    if len(found) != int(count or 0) - after:
        return None
    return coalesced(_entry(place, fields) for place, fields in found)


def _entry(place: bytes, fields: dict[bytes, bytes]) -> FeedEntry:
    kind: Any = fields[b"kind"].decode()
    return FeedEntry(
        place.decode().partition("-")[0], kind, fields[b"domain"].decode(), float(fields[b"at"])
    )
