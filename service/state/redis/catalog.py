"""Reading the changes of a catalog from Redis page by page, as of one moment, while others go on
writing.

Each page is one atomic step: the head of the catalog, what changed since the page before, and the
page. What changed meanwhile is read again, until a page finds nothing changed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from service.state import ChangedItem, Changes, Removals, StoredItem
from service.state.redis import keys, scripts
from service.state.redis.link import Link

PAGE_ITEMS = 2000
_PLAIN = 3
_PICTURED = 4
"""Fields of an item without a picture,
and of one with a picture; one that is not available has that behind both.
"""


class DomainRemovedMeanwhile(Exception):
    """There is no such domain, or no longer."""


def read_changes(
    link: Link, domain: str, since: int, incarnation: str, most: int
) -> Changes | None:
    """Read what changed after a generation; None where that is too much, or no longer known.

    Raises:
        DomainRemovedMeanwhile.
    """
    reading = _LogReading(link, domain, most)
    generation = reading.finish(_CatalogPosition(incarnation.encode(), since))
    if generation is None:
        return None
    upserted = [
        ChangedItem(row, *_fields(item))
        for row, item in sorted(reading.found.items())
        if item is not None
    ]
    return Changes.of(generation, upserted, sorted(reading.deleted), incomplete=reading.skipped)


def read_removals(link: Link, domain: str, since: int, incarnation: str) -> Removals | None:
    """Read what was deleted after a generation, or is not available; None where some of it is no
    longer known.

    Raises:
        DomainRemovedMeanwhile.
    """
    *_, deleted, unavailable = keys.catalog(domain)

    def ask(pipe: Any) -> None:
        pipe.hmget(keys.record(domain), "born", "generation", "forgotten")
        for key in (deleted, unavailable):
            pipe.zrangebyscore(key, f"({since}", "+inf")

    (there, generation, forgotten), *found = link.read(ask)
    if there is None:
        raise DomainRemovedMeanwhile
    if there.decode() != incarnation or not int(forgotten or 0) <= since <= int(generation):
        return None
    return Removals(int(generation), *([item_id.decode() for item_id in ids] for ids in found))


def written(item: StoredItem) -> tuple[str, str, str]:
    """Return id, item and metadata as they are stored: equal items are equal text."""
    values: list[Any] = [item.item_id, item.text, float(item.popularity)]
    if item.image or not item.available:
        values.append(item.image)
    if not item.available:
        values.append(False)
    metadata = json.dumps(item.metadata, sort_keys=True, ensure_ascii=False)
    return item.item_id, json.dumps(values, ensure_ascii=False), metadata


def read_item(stored: bytes, metadata: bytes | None) -> StoredItem:
    """Read what `written` wrote."""
    item_id, text, popularity, image, available = _fields(json.loads(stored))
    return StoredItem(item_id, text, popularity, json.loads(metadata or b"{}"), image, available)


def _fields(stored: Sequence[Any]) -> tuple[str, str, float, str, bool]:
    item_id, text, popularity = stored[:_PLAIN]
    image = stored[_PLAIN] if len(stored) > _PLAIN else ""
    return item_id, text, popularity, image, len(stored) <= _PICTURED


@dataclass(frozen=True, slots=True)
class _CatalogPosition:
    """A moment of a catalog: which domain of that name, and its generation."""

    incarnation: bytes
    generation: int


class _LogReading:
    """Reads changed rows until they all are of one generation.

    `found` are the rows that changed, None for a removed item; `deleted` the rows and ids of
    removed items. Rows that the next base reports are skipped.
    """

    def __init__(self, link: Link, domain: str, most: int) -> None:
        self._link = link
        self._domain = domain
        self._most = most
        self.found: dict[int, list[Any] | None] = {}
        self.deleted: list[tuple[int, str]] = []
        self.skipped = False

    def finish(self, since: _CatalogPosition) -> int | None:
        """Read the rows that changed since a position, and return the generation that they are of.

        None if more changed than the log keeps or `most` rows, or if it is another domain now.
        """
        wanted: deque[range] = deque()
        changed = 0
        while True:
            page = _take(wanted)
            seen, changes, items = self._page(since.generation, page)
            if (
                seen.incarnation != since.incarnation
                or len(changes) != seen.generation - since.generation
            ):
                return None
            self.found.update(zip(chain(*page), items, strict=True))
            again = [run for run in self._changed(changes) if run]
            changed += sum(map(len, again))
            if changed > self._most:
                return None
            wanted.extend(again)
            since = seen
            if not wanted:
                return since.generation

    def _changed(self, changes: Sequence[dict[bytes, bytes]]) -> list[range]:
        """Return the rows that changed, new ones last."""
        rows: set[int] = set()
        for change in changes:
            if b"later" in change:
                self.skipped = True
                continue
            deleted = _rows(change.get(b"gone", b""))
            self.deleted += zip(deleted, json.loads(change.get(b"ids", b"[]")), strict=True)
            rows.update(
                deleted,
                _rows(change[b"changed"]),
                range(int(change[b"first"]), int(change[b"rows"])),
            )
        return _runs(sorted(rows))

    def _page(
        self, since: int, runs: Sequence[range]
    ) -> tuple[_CatalogPosition, list[dict[bytes, bytes]], list[list[Any] | None]]:
        _, items, _, log, *_ = keys.catalog(self._domain)
        rows = [edge for run in runs if run for edge in (run[0], run[-1])]

        def ask(pipe: Any) -> None:
            pipe.hmget(keys.record(self._domain), "born", "generation")
            pipe.xrange(log, f"({since}", "+")
            if rows:
                pipe.eval(scripts.READ_ITEMS, 1, items, *rows)

        (incarnation, generation), changes, *found = self._link.read(ask)
        if incarnation is None:
            raise DomainRemovedMeanwhile
        position = _CatalogPosition(incarnation, int(generation))
        return position, [change for _, change in changes], json.loads(found[0]) if found else []


def _runs(rows: Sequence[int]) -> list[range]:
    """Return sorted rows as runs without a gap: a run is read at once."""
    runs: list[range] = []
    for row in rows:
        if runs and runs[-1].stop == row:
            runs[-1] = range(runs[-1].start, row + 1)
        else:
            runs.append(range(row, row + 1))
    return runs


def _rows(joined: bytes) -> list[int]:
    return [int(row) for row in joined.split(b",") if row]


def _take(wanted: deque[range]) -> list[range]:
    """Take a page of rows off the front."""
    page = []
    room = PAGE_ITEMS
    while wanted and room:
        run = wanted.popleft()
        page.append(run[:room])
        if len(run) > room:
            wanted.appendleft(run[room:])
        room -= len(page[-1])
    return page
