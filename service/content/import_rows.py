"""Rows of a spooled body: read one by one, checked, and reported where they are rejected."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO, Self

from pydantic import ValidationError
from pydantic_core import from_json

from service.content.item_reader import ItemReader, ItemRow
from service.errors import MalformedBody
from service.wire.json_array import spans
from service.wire.requests import MAX_IMAGE_B64, ItemBody
from service.wire.validation import FAST_TAG, plain_errors

MAX_REJECTED = 1000
MAX_ID = 256
MAX_DETAIL = 1000
MAX_KINDS = 30
MAX_KIND = 200
INVALID = "invalid_item"
OTHER = "other reasons"
MAX_ROW_BYTES = 256 * 1024
MAX_ROW_CONTAINERS = 10_000
"""Lists and objects of one row: a parser holds the
interpreter while it makes them, 0.1 s for 300,000.
"""
BATCH_ROWS = 5000
BATCH_BYTES = 4 * 1024 * 1024
"""Text of a batch: what is embedded between two looks at whether the import may go on."""
BATCH_S = 0.5

Check = Callable[[], None]


@dataclass(slots=True)
class RowReport:
    """What an import did; of the rejected rows the first thousand are listed, all are counted, by
    kind.

    `warnings` are about rows that were stored.
    """

    accepted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected_count: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rejected_kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**value)

    @property
    def stored(self) -> int:
        """Rows that the catalog has."""
        return self.accepted + self.updated + self.unchanged

    def reject(self, index: int, item_id: object, code: str, problem: RowProblem) -> None:
        """Count a row that cannot be stored; of a long id or reason the beginning is shown."""
        self.rejected_count += 1
        shown = item_id[:MAX_ID] if isinstance(item_id, str) else None
        row = {"index": index, "item_id": shown, "detail": problem.detail[:MAX_DETAIL]}
        kind = f"{code}: {problem.kind}"[:MAX_KIND]
        if kind not in self.rejected_kinds and len(self.rejected_kinds) >= MAX_KINDS:
            kind = OTHER
        self.rejected_kinds.setdefault(kind, {"count": 0, **row})["count"] += 1
        if len(self.rejected) < MAX_REJECTED:
            self.rejected.append({**row, "code": code})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; kinds and warnings only where there are some."""
        names = ("accepted", "updated", "unchanged", "rejected_count", "rejected")
        more = {
            name: found for name in ("rejected_kinds", "warnings") if (found := getattr(self, name))
        }
        return {name: getattr(self, name) for name in names} | more


_GIVEN = re.compile(r""""[^"]*?\.\.\.|"(?:\\.|[^"\\])*"|\b\d+\b""")
"""What a reason says of one row alone: the value, places and sizes."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row is rejected: in detail, with what was given, and as a kind that many rows share."""

    detail: str
    kind: str

    @classmethod
    def of(cls, error: ValueError, raw: object = None) -> Self:
        """Read what is wrong with a row from the error of a check."""
        if not isinstance(error, ValidationError):
            return cls(str(error), str(error))
        found = error.errors(include_url=False)
        shown = [one for one in found if FAST_TAG not in one["loc"]] or found
        kinds = [
            f"{_place(one['loc'])}: {_GIVEN.sub('…', one['msg'].removeprefix('Value error, '))}"
            for one in shown
        ]
        plain = plain_errors(found, raw, tuple(ItemBody.model_fields))
        return cls("; ".join(one["msg"] for one in plain), "; ".join(kinds))


def _place(loc: tuple[str | int, ...]) -> str:
    """Name a field without the alternatives of its type."""
    return ".".join(str(part) for part in loc if not str(part).startswith("|")) or "row"


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row that was read: its number,
    how much was read with it and of how much, and what it names; None: a reject.
    """

    index: int
    done: int
    total: int
    row: ItemRow | None


class _TooLong(ValueError):
    """A row over the limit."""


@dataclass(slots=True)
class RowBatch:
    """Rows that are stored together:
    those that are no rejects, how many of all, and how far the body is read.
    """

    rows_by_number: list[tuple[int, ItemRow]]
    rows: int
    done: int
    total: int


def read_batches(
    path: Path,
    report: RowReport,
    item_reader: ItemReader,
    after: int = 0,
    check: Check = lambda: None,
) -> Iterator[RowBatch]:
    """Yield the rows behind a position in batches that are small in rows, in bytes and in time.

    Rejected rows are in the report and count as rows of their batch, which may be without any item:
    an import of nothing but rejected rows goes on step by step as any other does.

    Args:
        path: of the body.
        report: where rejected rows are listed.
        item_reader: checks rows.
        after: position in bytes of lines, or in rows of an array.
        check: called for each row; what it raises ends the reading.

    Raises:
        MalformedBody: an array that is no JSON.
    """
    batch = RowBatch([], 0, 0, 0)
    size = 0
    began = time.monotonic()
    for read in read_rows(path, report, item_reader, after, check):
        batch.rows += 1
        batch.done = read.done
        batch.total = read.total
        if read.row is not None:
            batch.rows_by_number.append((read.index, read.row))
            size += read.row.text_size
        late = time.monotonic() - began > BATCH_S
        if late or batch.rows >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch = RowBatch([], 0, 0, 0)
            size = 0
            began = time.monotonic()
    if batch.rows:
        yield batch


def read_rows(
    path: Path,
    report: RowReport,
    item_reader: ItemReader,
    after: int = 0,
    check: Check = lambda: None,
) -> Iterator[ReadRow]:
    """Yield the rows behind a position, in bytes of lines or in rows of an array.

    Of a rejected row only its place is yielded; the report says why.

    Raises:
        MalformedBody: an array that is no JSON.
    """
    array = ".ndjson" not in path.name
    limit = MAX_ROW_BYTES + (MAX_IMAGE_B64 if item_reader.reads_images else 0)
    rows = _array(path, limit, check) if array else _lines(path, limit, after, check)
    for index, (done, total, raw) in enumerate(rows):
        check()
        if done <= after:
            continue
        yield ReadRow(index, done, total, _checked(index, raw, report, item_reader))


def _checked(index: int, raw: Any, report: RowReport, item_reader: ItemReader) -> ItemRow | None:
    """Return what a row names; None where it was rejected."""
    if isinstance(raw, _TooLong):
        report.reject(index, None, "item_too_large", RowProblem.of(raw))
    elif isinstance(raw, ValueError):
        report.reject(
            index, None, "malformed_json", RowProblem(str(raw), "a line that is not JSON")
        )
    else:
        try:
            return item_reader.row(ItemBody.model_validate(raw))
        except ValueError as error:
            given = raw.get("item_id") if isinstance(raw, dict) else None
            report.reject(index, given, INVALID, RowProblem.of(error, raw))
    return None


def _lines(path: Path, limit: int, after: int, check: Check) -> Iterator[tuple[int, int, Any]]:
    done = 0
    total = path.stat().st_size
    with path.open("rb") as file:
        while line := file.readline(limit):
            check()
            done += len(line)
            if len(line) == limit and not line.endswith(b"\n"):
                done += _skip_line(file, check)
                yield done, total, _TooLong(f"longer than {limit} bytes")
            elif line.strip():
                yield done, total, _value(line) if done > after else None


def _skip_line(file: BinaryIO, check: Check) -> int:
    """Read to the end of a line without keeping it; returns the bytes."""
    skipped = 0
    while part := file.readline(MAX_ROW_BYTES):
        check()
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _array(path: Path, limit: int, check: Check) -> Iterator[tuple[int, int, Any]]:
    """Yield the elements of an array after all of them were read once:
    of one that is no JSON nothing is stored.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise MalformedBody("the body is empty: expected a JSON array of items")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            total = _count(content, limit, check)
            for index, (start, end) in enumerate(spans(content), 1):
                long = end - start > limit
                yield (
                    index,
                    total,
                    _TooLong(f"longer than {limit} bytes") if long else _value(content[start:end]),
                )


def _count(content: mmap, limit: int, check: Check) -> int:
    """Read every element, and return how many there are.

    Raises:
        MalformedBody: it is no array of JSON values.
    """
    total = 0
    try:
        for start, end in spans(content):
            check()
            value = None if end - start > limit else _value(content[start:end])
            if isinstance(value, ValueError) and not isinstance(value, _TooLong):
                raise MalformedBody(f"the body is not JSON: element {total}: {value}")
            total += 1
    except ValueError as error:
        hint = "send a JSON array of items, or application/x-ndjson with one item a line"
        raise MalformedBody(f"the body is not JSON: {error}; {hint}") from error
    return total


def _value(text: bytes) -> Any:
    """Parse strictly: no NaN, no lone surrogate,
    no nesting that nothing could print; the error is returned.
    """
    containers = text.count(b"[") + text.count(b"{")
    if containers > MAX_ROW_CONTAINERS:
        return _TooLong(
            f"{containers} lists and objects in one row, expected at most {MAX_ROW_CONTAINERS}"
        )
    try:
        return from_json(text.removeprefix(codecs.BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        return error
