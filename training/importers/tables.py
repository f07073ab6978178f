"""What every importer returns, and the errors they share."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from training.rejections import Rejections


class DataError(ValueError):
    """Data that cannot be used; says where, what was expected and what to do.

    `rejected` holds what was counted before, where the error ended the reading of a log.
    """

    rejected: Rejections | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A log to read.

    Attributes:
        folder: where its files are.
        columns: our name of a column to its name in the files, where they differ.
        rejected: what cannot be used is counted here.
    """

    folder: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    rejected: Rejections = field(default_factory=Rejections)


@contextmanager
def counted(folder: Path, rejected: Rejections) -> Iterator[None]:
    """Name the folder in an error of the data, and attach what was counted before it.

    Raises:
        DataError: the one that was raised inside.
    """
    try:
        yield
    except DataError as error:
        named = error if str(folder) in str(error) else DataError(f"{folder}: {error}")
        named.rejected = rejected
        raise named from error.__cause__


CHUNK = 1 << 19
"""Interactions that are in memory at a time while a log is read."""

LOG_COLUMNS = ("user_id", "item_id", "timestamp")


class Tables:
    """A log as read: the whole catalog, and the interactions in chunks, so that a long log needs no
    memory.

    `items` has `item_id`, `title` and further columns, the interactions have `user_id`, `item_id`,
    `timestamp`, in the file's order. All ids and texts are strings. `rejected` is complete once the
    chunks were read.
    """

    def __init__(
        self,
        items: pl.DataFrame,
        log: pl.DataFrame | Iterator[pl.DataFrame],
        rejected: Rejections | None = None,
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


def in_chunks(
    rows: Iterable[Sequence[Any]], schema: Mapping[str, type[pl.DataType]]
) -> Iterator[pl.DataFrame]:
    """Gather rows into frames; at least one, so that the columns are known."""
    source = iter(rows)
    first = True
    while (part := list(itertools.islice(source, CHUNK))) or first:
        yield pl.DataFrame(part, schema=dict(schema), orient="row")
        first = False


def numbered(log: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Add the place in the file as `timestamp`:
    where a log has no times, its order is the order of events.
    """
    done = 0
    for chunk in log:
        yield chunk.with_row_index("timestamp", offset=done)
        done += chunk.height


def _as_latin1(error: UnicodeError) -> tuple[str, int]:
    """Read the bytes that are not UTF-8 as Latin-1, which has a character for each."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


LATIN1 = "swaprec-latin-1"
"""For `errors` of a file whose publisher wrote it in UTF-8, in Latin-1, or in both."""

codecs.register_error(LATIN1, _as_latin1)


def lines_of(path: Path, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a file in UTF-8; only a newline ends one, whatever a title contains.

    Raises:
        DataError: it is not UTF-8, and `errors` is "strict".
    """
    try:
        with path.open(encoding="utf-8-sig", errors=errors, newline="\n") as file:
            for line in file:
                yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


GZIP = b"\x1f\x8b"


def gzip_hint(folder: Path, pattern: str) -> str:
    """Return what to do where a file is missing that
    lies there compressed; empty where none does.
    """
    found = sorted(path.relative_to(folder) for path in folder.rglob(f"{pattern}.gz"))
    return f"; {found[0]} is compressed by gzip: unpack it with gunzip" if found else ""


def not_utf8(path: Path) -> DataError:
    """Return the error of a file that is not UTF-8, with the first line that is not."""
    with path.open("rb") as file:
        if file.read(len(GZIP)) == GZIP:
            return DataError(f"{path} is compressed by gzip: unpack it with gunzip")
        file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"line {number}, byte {error.start + 1} of it"
                return DataError(
                    f"{path} is not UTF-8 ({where}): convert it, for example with iconv -t UTF-8"
                )
    return DataError(f"{path} is not UTF-8: convert it, for example with iconv -t UTF-8")


def files_of(path: Path, what: str) -> list[Path]:
    """Return a file, or the parts of a folder in the order of their names, as Spark writes them.

    Parts of no bytes, which Spark writes for partitions without rows, are left out.

    Raises:
        DataError: there is nothing, or a folder without parts.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        hint = gzip_hint(path.parent, path.name)
        raise DataError(
            f"{path} is not there: expected one {what}, or a folder with its parts{hint}"
        )
    inside = (part.relative_to(path) for part in sorted(path.rglob("*")) if part.is_file())
    found = [
        path / name
        for name in inside
        if not any(one.startswith((".", "_")) for one in name.parts)
        and (path / name).stat().st_size > 0
    ]
    if not found:
        raise DataError(f"{path} is a folder without parts of a {what}")
    return found


def one_file(folder: Path, pattern: str, what: str) -> Path:
    """Find the only file of a pattern in a folder.

    Raises:
        DataError: there is none, or several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        hint = "" if found else gzip_hint(folder, pattern)
        raise DataError(f"{folder}: expected one {what} ({pattern}), found {names}{hint}")
    return found[0]


def rows_of(
    path: Path,
    names: Sequence[str],
    rejected: Rejections,
    separator: str = "\t",
    errors: str = "strict",
) -> pl.DataFrame:
    """Read a whole file without a header, as `chunks_of` does.

    Raises:
        DataError: it is not there, or not UTF-8 and `errors` is "strict".
    """
    return pl.concat(list(chunks_of(path, names, rejected, separator, errors)))


def chunks_of(
    path: Path,
    names: Sequence[str],
    rejected: Rejections,
    separator: str = "\t",
    errors: str = "strict",
) -> Iterator[pl.DataFrame]:
    """Read a file without a header, one row a line; further fields of a line are left out, shorter
    lines rejected.

    Raises:
        DataError: it is not there, or not UTF-8 and `errors` is "strict".
    """

    def rows() -> Iterator[list[str]]:
        for number, line in enumerate(lines_of(there(path), errors), 1):
            fields = line.split(separator)
            if len(fields) >= len(names):
                yield fields[: len(names)]
            elif line.strip():
                rejected.add(
                    f"{path.name}: {len(names)} fields expected", 1, f"line {number}: {line}"
                )

    return in_chunks(rows(), dict.fromkeys(names, pl.String))


def there(path: Path) -> Path:
    """Return a path that is a file.

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there{gzip_hint(path.parent, path.name)}")
    return path
