"""What both backends do with the feed: its length, and one entry for many that say the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from service.state import FeedEntry

KEPT_ENTRIES = 10_000


def coalesced(entries: Iterable[FeedEntry]) -> list[FeedEntry]:
    """Keep of equal entries the last,
    with the time of the first: what they name is to be looked at once.
    """
    found: dict[tuple[str, str], FeedEntry] = {}
    for entry in entries:
        earlier = found.pop((entry.kind, entry.domain), entry)
        found[entry.kind, entry.domain] = replace(entry, at=earlier.at)
    return list(found.values())
