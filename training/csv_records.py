"""Records of CSV files, also of wrong ones:
what cannot be read costs a record, not the rest of the file.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

MAX_FIELD = 64 * 1024 * 1024
"""Characters of a field in quotes; of a longer one its record is rejected."""
MAX_RECORD_LINES = 1000
"""A quoted text may have so many lines; more are a quote that nobody closed."""

csv.field_size_limit(MAX_FIELD)  # of the whole process: Python's own limit is 131,072

Skips = Literal["never", "with quotes", "always"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the fields of a file are set apart.

    `skips_blanks`: in which records the blanks before a field are no part of it; "with quotes"
    means in those with a quote anywhere.
    """

    delimiter: str = ","
    skips_blanks: Skips = "with quotes"

    def parse(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Parse lines strictly: a quote in the wrong place is an error."""
        skips = self.skips_blanks != "never"
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=skips, strict=True)

    def split(self, line: str) -> list[str]:
        """Split a line that has no quotes."""
        fields = line.split(self.delimiter)
        return [field.lstrip(" ") for field in fields] if self.skips_blanks == "always" else fields


class Record(NamedTuple):
    """A record: the number of its first line, that line without its end, and the fields.

    The fields are None where quotes are wrong.
    """

    number: int
    line: str
    fields: list[str] | None


def read_records(
    lines: Iterator[str], dialect: Dialect, *, width: int | None = None, first: int = 1
) -> Iterator[Record]:
    """Yield the records of a file; blank lines between them are skipped.

    After a wrong quote it goes on with the next line, though the quote would swallow it.

    Args:
        lines: with their ends.
        dialect: how fields are set apart.
        width: fields that a record of more than one line must have, or its quote is taken for a
            wrong one.
        first: the number of the first line.
    """
    back: deque[str] = deque()
    number = first
    while (line := back.popleft() if back else next(lines, None)) is not None:
        bare = line.rstrip("\r\n")
        taken = 1
        if '"' not in bare:
            fields: list[str] | None = dialect.split(bare)
        else:
            fields, taken = _parse(line, back, lines, dialect, width)
        if bare and not bare.isspace():
            yield Record(number, bare, fields)
        number += taken


def _parse(
    line: str, back: deque[str], lines: Iterator[str], dialect: Dialect, width: int | None
) -> tuple[list[str] | None, int]:
    """Parse the record that begins with a line; returns its fields and how many lines it has.

    Of one that cannot be read only the first line is taken: the others go to `back`, which is read
    before `lines`.
    """
    taken = [line]

    def feed() -> Iterator[str]:
        yield line
        while len(taken) < MAX_RECORD_LINES:
            following = back.popleft() if back else next(lines, None)
            if following is None:
                return
            taken.append(following)
            yield following

    try:
        fields = next(dialect.parse(feed()))
    except csv.Error:
        fields = None
    if fields is not None and (len(taken) == 1 or width in (None, len(fields))):
        return fields, len(taken)
    back.extendleft(reversed(taken[1:]))
    return None, 1
