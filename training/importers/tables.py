"""What every importer returns, and the errors they share."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from training.rejections import Rejections


class DataError(ValueError):
    """Data that cannot be used; says where, what was expected and what to do."""


CHUNK = 1 << 19
"""Interactions that are in memory at a time while a log is read."""

LOG_COLUMNS = ("user_id", "item_id", "timestamp")


class Tables:
    """A log as read: the whole catalog, and the interactions in chunks, so that a long log needs no memory.

    `items` has `item_id`, `title` and further columns, the interactions have `user_id`, `item_id`, `timestamp`, in the
    file's order. All ids and texts are strings. `rejected` is complete once the chunks were read.
    """

    def __init__(
        self, items: pl.DataFrame, log: pl.DataFrame | Iterator[pl.DataFrame], rejected: Rejections | None = None
    ) -> None:
        self.items = items
        self.rejected = rejected or Rejections()
        self._log = log

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Yield the interactions, once."""
        if isinstance(self._log, pl.DataFrame):
            yield self._log
        else:
            yield from self._log

    @property
    def interactions(self) -> pl.DataFrame:
        """All interactions in memory."""
        if not isinstance(self._log, pl.DataFrame):
            self._log = pl.concat(list(self._log))
        return self._log


def in_chunks(rows: Iterable[Sequence[Any]], schema: Mapping[str, type[pl.DataType]]) -> Iterator[pl.DataFrame]:
    """Gather rows into frames; at least one, so that the columns are known."""
    source = iter(rows)
    first = True
    while (part := list(itertools.islice(source, CHUNK))) or first:
        yield pl.DataFrame(part, schema=dict(schema), orient="row")
        first = False


TITLES = ("title", "movie_title", "name", "item_name")


def to_tables(
    folder: Path, items: pl.DataFrame, names: Sequence[str], log: Iterator[pl.DataFrame], rejected: Rejections
) -> Tables:
    """Name the columns of two files as we name them: the title is the first of `TITLES` that is there.

    Without a column `timestamp` the order of the file is the order of events.

    Raises:
        DataError: columns that are missing, in both files at once.
    """
    title = next((name for name in TITLES if name in items.columns), None)
    lacks = [name for name, there in (("item_id", "item_id" in items.columns), ("title", title)) if not there]
    missing = [name for name in ("user_id", "item_id") if name not in names]
    problems = [
        f"the file of {what} lacks {', '.join(missed)}; it has {', '.join(has)}"
        for what, missed, has in (("items", lacks, items.columns), ("interactions", missing, names))
        if missed
    ]
    if problems or title is None:
        raise DataError(f"{folder}: {'; '.join(problems)}")
    if "timestamp" not in names:
        log = _numbered(log)
    return Tables(items.rename({title: "title"}), (chunk.select(LOG_COLUMNS) for chunk in log), rejected)


def _numbered(log: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    done = 0
    for chunk in log:
        yield chunk.with_row_index("timestamp", offset=done)
        done += chunk.height


def lines_of(path: Path, encoding: str = "utf-8-sig") -> Iterator[str]:
    """Yield the lines of a file; only a newline ends one, whatever a title contains.

    Raises:
        DataError: it is not in that encoding.
    """
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            for line in file:
                yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it, for example with iconv") from error


def one_file(folder: Path, pattern: str, what: str) -> Path:
    """Find the only file of a pattern in a folder.

    Raises:
        DataError: there is none, or several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: expected one {what} ({pattern}), found {names}")
    return found[0]


def rows_of(
    path: Path, names: Sequence[str], rejected: Rejections, separator: str = "\t", encoding: str = "utf-8-sig"
) -> pl.DataFrame:
    """Read a whole file without a header, as `chunks_of` does.

    Raises:
        DataError: it is not there, or not in that encoding.
    """
    return pl.concat(list(chunks_of(path, names, rejected, separator, encoding)))


def chunks_of(
    path: Path, names: Sequence[str], rejected: Rejections, separator: str = "\t", encoding: str = "utf-8-sig"
) -> Iterator[pl.DataFrame]:
    """Read a file without a header, one row a line; further fields of a line are left out, shorter lines rejected.

    Raises:
        DataError: it is not there, or not in that encoding.
    """

    def rows() -> Iterator[list[str]]:
        for number, line in enumerate(lines_of(there(path), encoding), 1):
            fields = line.split(separator)
            if len(fields) >= len(names):
                yield fields[: len(names)]
            elif line.strip():
                rejected.add(f"{path.name}: {len(names)} fields expected", 1, f"line {number}: {line}")

    return in_chunks(rows(), dict.fromkeys(names, pl.String))


def json_lines(path: Path, rejected: Rejections) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines, compressed or not; what is none is rejected.

    Raises:
        DataError: a damaged archive.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                try:
                    value = json.loads(line)
                except ValueError:
                    value = None
                if isinstance(value, dict):
                    yield value
                elif line.strip():
                    rejected.add(f"{path.name}: no JSON object", 1, f"line {number}: {line.strip()}")
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or cut off: {error}; fetch it again") from error


def there(path: Path) -> Path:
    """Return a path that is a file.

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there")
    return path
