"""Rows of a CSV file, also of one that is not quite one:
what cannot be read costs a row, not the rest of the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from swaprec.errors import USAGE, Stop
from swaprec.row_log import RowLog
from training.csv_records import Dialect, read_records

DELIMITERS = ",;\t|"


def csv_rows(lines: Iterator[str], where: str, log: RowLog) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file with a header, each with its place; columns without a name are left
    out.

    A row that has too many fields or a wrong quote is rejected; the fields that a row lacks are not
    named in it.

    Raises:
        Stop: a header that names a column twice, or none; lines that end with carriage returns
            alone.
    """
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return
    if "\r" in first.rstrip("\r\n"):
        raise Stop(
            f"{where}: its lines end with carriage returns alone",
            "convert them to newlines, for example with: tr '\\r' '\\n' < FILE > NEW",
            USAGE,
        )
    dialect = _dialect_of(first)
    names = _names(dialect, first, where)
    log.saw(names)
    for number, _, fields in read_records(lines, dialect, width=len(names), first=2):
        place = f"{where}, line {number}"
        if fields is None:
            log.reject("a quote that is not closed, or text behind it", place)
        elif _is_too_long(fields, len(names)):
            log.reject(f"more fields than the header's {len(names)}", f"{place} has {len(fields)}")
        elif any(map(str.strip, fields)):
            yield place, _row(names, fields, place, log)


def _is_too_long(fields: list[str], width: int) -> bool:
    """Whether there are more fields than names, not counting blank ones at the end."""
    return any(map(str.strip, fields[width:]))


def _row(names: list[str], fields: list[str], place: str, log: RowLog) -> dict[str, Any]:
    """Name the fields; of a row that ends early count that it does."""
    if len(fields) < len(names):
        log.count_short(f"{place} ends before {names[len(fields)]}")
    return {name: value for name, value in zip(names, fields, strict=False) if name}


def _dialect_of(header: str) -> Dialect:
    """Read off the header the most frequent delimiter, and whether a blank follows it."""
    delimiter = max(DELIMITERS, key=header.count)
    return Dialect(delimiter, "always" if f"{delimiter} " in header else "never")


def _names(dialect: Dialect, header: str, where: str) -> list[str]:
    try:
        names = [name.strip() for name in next(dialect.parse(iter([header])), [])]
    except csv.Error as error:
        raise Stop(
            f"{where}: the header is not CSV: {error}", "expected item_id,title,…", USAGE
        ) from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice or not any(names):
        found = (
            f"the header names {', '.join(twice)} twice" if twice else "the header names no column"
        )
        raise Stop(f"{where}: {found}", "expected different names, such as item_id,title,…", USAGE)
    return names
