"""Rows of a CSV file, also of one that is not quite one: what cannot be read costs a row, not the rest of the file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from swaprec.errors import USAGE, Stop
from swaprec.row_log import RowLog

DELIMITERS = ",;\t|"
MAX_FIELD = 64 * 1024 * 1024
MAX_RECORD_LINES = 1000
"""A quoted text may have so many lines; more are a quote that nobody closed."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How the fields of a file are set apart."""

    delimiter: str
    skips_blanks: bool

    @classmethod
    def of(cls, header: str) -> _Form:
        """Read it off the header: the most frequent delimiter, and whether a blank follows it."""
        delimiter = max(DELIMITERS, key=header.count)
        return cls(delimiter, f"{delimiter} " in header)

    def read(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Parse lines strictly: a quote in the wrong place is an error."""
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.skips_blanks, strict=True)


def csv_rows(lines: Iterator[str], where: str, log: RowLog) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file with a header, each with its place; columns without a name are left out.

    A row that has too many fields or a wrong quote is rejected; the fields that a row lacks are not named in it.

    Raises:
        Stop: a header that names a column twice, or none; lines that end with carriage returns alone.
    """
    csv.field_size_limit(MAX_FIELD)
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return
    if "\r" in first.rstrip("\r\n"):
        raise Stop(
            f"{where}: its lines end with carriage returns alone",
            "convert them to newlines, for example with: tr '\\r' '\\n' < FILE > NEW",
            USAGE,
        )
    form = _Form.of(first)
    names = _names(form, first, where)
    log.saw(names)
    for number, fields in _Records(lines, form, len(names)):
        place = f"{where}, line {number}"
        if fields is None:
            log.reject("a quote that is not closed, or text behind it", place)
        elif len(fields) > len(names) and any(map(str.strip, fields[len(names) :])):
            log.reject(f"more fields than the header's {len(names)}", f"{place} has {len(fields)}")
        elif any(map(str.strip, fields)):
            if len(fields) < len(names):
                log.count_short(f"{place} ends before {names[len(fields)]}")
            pairs = zip(names, fields, strict=False)
            yield place, {name: value for name, value in pairs if name}


def _names(form: _Form, header: str, where: str) -> list[str]:
    try:
        names = [name.strip() for name in next(form.read(iter([header])), [])]
    except csv.Error as error:
        raise Stop(f"{where}: the header is not CSV: {error}", "expected item_id,title,…", USAGE) from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice or not any(names):
        found = f"the header names {', '.join(twice)} twice" if twice else "the header names no column"
        raise Stop(f"{where}: {found}", "expected different names, such as item_id,title,…", USAGE)
    return names


class _Records:
    """Yields (number of the first line, fields) of each record; None for fields that cannot be read.

    After a wrong quote it goes on with the next line, though the quote would swallow it.
    """

    def __init__(self, lines: Iterator[str], form: _Form, width: int) -> None:
        self._lines = lines
        self._form = form
        self._width = width
        self._back: deque[str] = deque()
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, list[str] | None]]:
        number = 2  # the header is the first
        while True:
            self._taken = []
            fields = self._fields()
            if not self._taken:
                return
            yield number, fields
            number += len(self._taken)

    def _fields(self) -> list[str] | None:
        """Read a record; of one that cannot be read only the first line counts as taken."""
        try:
            fields = next(self._form.read(self._feed()), None)
        except csv.Error:
            fields = None
        if fields is not None and (len(self._taken) == 1 or len(fields) == self._width):
            return fields
        self._back.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
        return None

    def _feed(self) -> Iterator[str]:
        while len(self._taken) < MAX_RECORD_LINES:
            line = self._back.popleft() if self._back else next(self._lines, None)
            if line is None:
                return
            self._taken.append(line)
            yield line
