"""CSV row by row, for files that are wrong somewhere: bad rows are counted, all others are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.csv_records import Dialect, Record, read_records
from training.importers.tables import DataError, not_utf8
from training.rejections import Rejections

MAX_SHOWN = 300
BAD_QUOTES = "quotes that do not match"


def rows_of_length(
    path: Path, length: int, name: str, rejected: Rejections, *, skip: int
) -> Iterator[list[str | None]]:
    """Yield the rows that have `length` fields, None for empty ones; others are rejected, blank
    lines are skipped.

    Args:
        path: the file.
        length: fields of a row.
        name: what the file is called in counts.
        rejected: bad rows are counted here.
        skip: rows at the beginning that are left out, such as a header.

    Raises:
        DataError: it is not UTF-8.
    """
    for place, (number, line, fields) in enumerate(records(path, length)):
        if place < skip:
            continue
        if fields is None:
            rejected.add(f"{name}: {BAD_QUOTES}", 1, f"line {number}: {line}")
        elif len(fields) == length:
            yield [field or None for field in fields]
        else:
            rejected.add(f"{name}: {length} fields expected", 1, f"line {number}: {line}")


def records(path: Path, width: int | None = None) -> Iterator[Record]:
    """Yield each record; its fields are None where quotes do not match, or swallow lines and do not
    make `width`.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from read_records(file, Dialect(), width=width)
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def header_of(path: Path) -> list[str]:
    """Read the names of a CSV file's columns, without the blanks around them.

    Raises:
        DataError: not UTF-8, or no header of different names.
    """
    _, line, fields = next(records(path), (0, "", []))
    if "\r" in line:
        raise DataError(
            f"{path}: its lines end with carriage returns alone: convert them to newlines"
        )
    names = [name.strip() for name in fields or ()]
    if not names or len(set(names)) < len(names) or not all(names):
        found = ", ".join(names) or line[:MAX_SHOWN] or "an empty file"
        raise DataError(f"{path}: expected a header of different names, got {found[:MAX_SHOWN]}")
    return names
