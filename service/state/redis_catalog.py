"""Reading a catalog from Redis page by page, as it is at one moment, while others go on writing.

Each page is one atomic step: where the catalog stands, what changed since the page before, and the page. What changed
meanwhile is read again, until a page finds nothing changed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from service.state import CatalogRows, ChangedItem, Changes, Removals, StoredItem
from service.state import redis_keys as keys
from service.state import redis_scripts as scripts
from service.state.redis_link import Link

PAGE_ITEMS = 2000
END_OF_LOG = str(2**64 - 1)  # behind every entry of a log
_PLAIN, _PICTURED = 3, 4
"""Fields of an item without a picture, and of one with a picture; one that is not available has that behind both."""


class DomainRemovedMeanwhile(Exception):
    """There is no such domain, or no longer."""


def read_all(link: Link, domain: str) -> CatalogRows:
    """Read the whole catalog.

    Raises:
        DomainRemovedMeanwhile.
    """
    while True:
        found = _Columns()
        reading = _LogReading(link, domain, found.put)
        about = reading.about()
        end = reading.finish(about, range(about.rows))
        if end is not None:  # else more changed than the log keeps, or it is another domain now
            return found.catalog(end)


def read_changes(link: Link, domain: str, since: int, born: str, most: int) -> Changes | None:
    """Read what changed after a generation; None where that is too much, or no longer known.

    Raises:
        DomainRemovedMeanwhile.
    """
    found: dict[int, list[Any] | None] = {}
    reading = _LogReading(link, domain, found.__setitem__, most, whole=False)
    end = reading.finish(_About(born.encode(), since, 0), range(0))
    if end is None:
        return None
    upserted = [ChangedItem(row, *_fields(item)) for row, item in sorted(found.items()) if item is not None]
    return Changes.of(end.generation, upserted, sorted(reading.deleted), incomplete=reading.skipped)


def read_removals(link: Link, domain: str, since: int, born: str) -> Removals | None:
    """Read what was deleted after a generation, or is not available; None where some of it is no longer known.

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
    if there.decode() != born or not int(forgotten or 0) <= since <= int(generation):
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
class _About:
    """Where a catalog stands: which domain of that name, its generation, how many rows were given."""

    born: bytes
    generation: int
    rows: int


@dataclass(slots=True)
class _Columns:
    """A catalog's items by row; a row without one has no id."""

    ids: list[str | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    popularity: list[float] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    available: list[bool] = field(default_factory=list)

    def put(self, row: int, stored: list[Any] | None) -> None:
        """Take what a row holds, the next one or one that was taken before."""
        fields = (None, "", 0.0, "", False) if stored is None else _fields(stored)
        columns: tuple[list[Any], ...] = (self.ids, self.texts, self.popularity, self.images, self.available)
        for column, value in zip(columns, fields, strict=True):
            column[row : row + 1] = [value]

    def catalog(self, about: _About) -> CatalogRows:
        """Return the rows that hold an item."""
        rows = [row for row, item_id in enumerate(self.ids) if item_id is not None]
        columns: list[list[Any]] = [self.ids, self.texts, self.popularity, self.images, self.available]
        if len(rows) < len(self.ids):
            columns = [[column[row] for row in rows] for column in columns]
        ids, texts, popularity, images, available = columns
        return CatalogRows(about.generation, ids, texts, popularity, images, rows, available, about.born.decode())


class _LogReading:
    """Reads rows until they all are of one generation; remembers which were deleted meanwhile.

    Unless it is `whole`, what the next base reports is skipped.
    """

    def __init__(
        self,
        link: Link,
        domain: str,
        put: Callable[[int, list[Any] | None], None],
        most: float = float("inf"),
        *,
        whole: bool = True,
    ) -> None:
        self._link, self._domain, self._put, self._most, self._whole = link, domain, put, most, whole
        self.deleted: list[tuple[int, str]] = []
        self.skipped = False

    def about(self) -> _About:
        """Return where the catalog stands."""
        return self._page(None, [])[0]

    def finish(self, about: _About, rows: range) -> _About | None:
        """Read rows, and what changed since; returns where the catalog stands then.

        None if more changed than the log keeps or `most` rows, or if it is another domain now.
        """
        wanted, changed = deque([rows]), 0
        while True:
            page = _take(wanted)
            seen, changes, items = self._page(about.generation, page)
            if seen.born != about.born or len(changes) != seen.generation - about.generation:
                return None
            for row, item in zip(chain(*page), items, strict=True):
                self._put(row, item)
            again = [run for run in self._changed(changes) if run]
            changed += sum(map(len, again))
            if changed > self._most:
                return None
            wanted.extend(again)
            about = seen
            if not wanted:
                return about

    def _changed(self, changes: Sequence[dict[bytes, bytes]]) -> list[range]:
        """Return the rows that changed, new ones last."""
        rows: set[int] = set()
        for change in changes:
            if not self._whole and b"later" in change:
                self.skipped = True
                continue
            deleted = _rows(change.get(b"gone", b""))
            self.deleted += zip(deleted, json.loads(change.get(b"ids", b"[]")), strict=True)
            rows.update(deleted, _rows(change[b"changed"]), range(int(change[b"first"]), int(change[b"rows"])))
        return _runs(sorted(rows))

    def _page(
        self, since: int | None, runs: Sequence[range]
    ) -> tuple[_About, list[dict[bytes, bytes]], list[list[Any] | None]]:
        _, items, _, log, *_ = keys.catalog(self._domain)
        rows = [edge for run in runs if run for edge in (run[0], run[-1])]

        def ask(pipe: Any) -> None:
            pipe.hmget(keys.record(self._domain), "born", "generation", "rows")
            pipe.xrange(log, END_OF_LOG if since is None else f"({since}", "+")
            if rows:
                pipe.eval(scripts.READ_ITEMS, 1, items, *rows)

        about, changes, *found = self._link.read(ask)
        if about[0] is None:
            raise DomainRemovedMeanwhile
        there = _About(about[0], int(about[1]), int(about[2]))
        return there, [change for _, change in changes], json.loads(found[0]) if found else []


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
    page, room = [], PAGE_ITEMS
    while wanted and room:
        run = wanted.popleft()
        page.append(run[:room])
        if len(run) > room:
            wanted.appendleft(run[room:])
        room -= len(page[-1])
    return page
