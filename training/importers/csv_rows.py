"""CSV row by row, for files that are wrong somewhere: bad rows are counted, all others are kept."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from training.importers.tables import DataError, not_utf8
from training.rejections import Rejections

MAX_FIELD = 1 << 24
"""Characters of a field; a longer one ends no import, its row is rejected."""

MAX_RECORD_LINES = 1000
"""Lines that a quoted field may span, so that one stray quote does not swallow the rest of the file."""

MAX_SHOWN = 300
BAD_QUOTES = "quotes that do not match"
_OPEN = "unexpected end of data"

csv.field_size_limit(MAX_FIELD)  # of the whole process: Python's own limit is 131,072


def rows_of_length(
    path: Path, length: int, name: str, rejected: Rejections, *, skip: int
) -> Iterator[list[str | None]]:
    """Yield the rows that have `length` fields, None for empty ones; others are rejected, blank lines are skipped.

    Args:
        path: the file.
        length: fields of a row.
        name: what the file is called in counts.
        rejected: bad rows are counted here.
        skip: rows at the beginning that are left out, such as a header.

    Raises:
        DataError: it is not UTF-8.
    """
    for place, (number, line, fields) in enumerate(records(path)):
        if place < skip:
            continue
        if fields is None:
            rejected.add(f"{name}: {BAD_QUOTES}", 1, f"line {number}: {line}")
        elif len(fields) == length:
            yield [field or None for field in fields]
        else:
            rejected.add(f"{name}: {length} fields expected", 1, f"line {number}: {line}")


def records(path: Path) -> Iterator[tuple[int, str, list[str] | None]]:
    """Yield each record with the number of its line and the line; the fields are None where quotes do not match.

    After a line with a stray quote the reading goes on with the next line.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from _records(file)
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def _records(lines: Iterator[str]) -> Iterator[tuple[int, str, list[str] | None]]:
    ahead: deque[str] = deque()
    number = 0
    while (raw := ahead.popleft() if ahead else next(lines, None)) is not None:
        number += 1
        line = raw.rstrip("\r\n")
        if not line.strip():
            continue
        fields, is_open = _fields(line)
        if is_open:
            fields, taken = _spanning(raw, ahead, lines)
            yield number, line, fields
            number += taken
        else:
            yield number, line, fields


def _spanning(first: str, ahead: deque[str], lines: Iterator[str]) -> tuple[list[str] | None, int]:
    """Read on until the quotes match; returns the fields and how many further lines they span.

    Where they never match, the lines stay in `ahead`: they are records of their own.
    """
    text = [first]
    quotes = first.count('"')
    for taken in range(1, MAX_RECORD_LINES):
        if len(ahead) < taken:
            following = next(lines, None)
            if following is None:
                break
            ahead.append(following)
        text.append(ahead[taken - 1])
        quotes += text[-1].count('"')
        if '"' in text[-1] and quotes % 2 == 0:
            fields, is_open = _fields("".join(text).rstrip("\r\n"))
            if fields is not None:
                for _ in range(taken):
                    ahead.popleft()
                return fields, taken
            if not is_open:
                break
    return None, 0


def _fields(text: str) -> tuple[list[str] | None, bool]:
    """Return the fields of a record, or None and whether it ends inside quotes."""
    if '"' not in text:
        return text.split(","), False
    try:
        return next(csv.reader((text,), strict=True, skipinitialspace=True)), False
    except csv.Error as error:
        return None, str(error) == _OPEN


def header_of(path: Path) -> list[str]:
    """Read the names of a CSV file's columns, without the blanks around them.

    Raises:
        DataError: not UTF-8, or no header of different names.
    """
    _, line, fields = next(records(path), (0, "", []))
    if "\r" in line:
        raise DataError(f"{path}: its lines end with carriage returns alone: convert them to newlines")
    names = [name.strip() for name in fields or ()]
    if not names or len(set(names)) < len(names) or not all(names):
        found = ", ".join(names) or line[:MAX_SHOWN] or "an empty file"
        raise DataError(f"{path}: expected a header of different names, got {found[:MAX_SHOWN]}")
    return names
