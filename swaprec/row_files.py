"""Files of rows in any usual form:
NDJSON, a JSON array, CSV, Parquet; compressed by gzip, or in parts in a folder.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from swaprec.csv_rows import csv_rows
from swaprec.errors import USAGE, Stop
from swaprec.extras import needing
from swaprec.row_log import RowLog

KINDS = ".ndjson, .jsonl, .json, .csv or .parquet"
NAME_NDJSON = "one object a line is NDJSON: name it .ndjson"
PEEK = 4096
GZIP = b"\x1f\x8b"
WIDE = ("utf-16", "utf-32")
"""Encodings in which the byte of a newline may be half a letter."""

RowIterator = Iterator[tuple[str, Mapping[str, Any]]]
"""Rows, each with its place in a file."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """A file, the parts of one in a folder, or standard input."""

    paths: tuple[Path, ...]
    encoding: str = "utf-8"
    in_folder: bool = False

    @classmethod
    def find(cls, path: Path, encoding: str = "utf-8") -> RowSource:
        """Find what is read.

        Raises:
            Stop: nothing is there, or nothing of a form that is read; no such encoding.
        """
        try:
            name = codecs.lookup(encoding).name
        except LookupError as error:
            raise Stop(
                f"{encoding!r} is no encoding", "such as utf-8, latin-1 or utf-16", USAGE
            ) from error
        if str(path) == "-":
            return cls((), name)
        if not path.exists():
            raise Stop(
                f"{path} is not there",
                f"give a file whose name ends with {KINDS}, also with .gz behind",
                USAGE,
            )
        paths = _parts(path) if path.is_dir() else (path,)
        for one in paths:
            if _suffix(one) not in _READERS:
                raise Stop(
                    f"{one} has no form that is read",
                    f"expected {KINDS}, also with .gz behind",
                    USAGE,
                )
        return cls(paths, name, path.is_dir())

    def rows(self, log: RowLog) -> RowIterator:
        """Yield the rows of all parts.

        Raises:
            Stop: what is wrong with a file as a whole.
        """
        if not self.paths:
            yield from _json_lines(_lines(sys.stdin.buffer, "stdin", self.encoding), "stdin", log)
        readers = _READERS | {".json": _json_part} if self.in_folder else _READERS
        for path in self.paths:
            yield from readers[_suffix(path)](path, self.encoding, log)


def _parts(folder: Path) -> tuple[Path, ...]:
    """Name the files of a folder that hold rows; Spark marks the others, such as _SUCCESS."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] not in "._")
    kinds = {_suffix(path) for path in found}
    if len(kinds) != 1:
        shown = ", ".join(path.name for path in found[:5]) or "no file"
        raise Stop(f"{folder} has {shown}", f"expected parts of one form in it: {KINDS}", USAGE)
    return tuple(found)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacked where it is a gzip, whatever its name.

    Raises:
        Stop: it cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            if packed:
                with gzip.open(raw) as unpacked:
                    yield cast("BinaryIO", unpacked)
            else:
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Stop(f"{path} is damaged or cut off: {error}", "fetch it again", USAGE) from error


def _lines(file: BinaryIO, where: str, encoding: str) -> Iterator[str]:
    """Yield the lines of a file with their ends.

    Raises:
        Stop: they are not in that encoding; says where.
    """
    if encoding.startswith(WIDE):
        yield from _wide_lines(file, where, encoding)
        return
    done = 0
    for number, line in enumerate(file, 1):
        given = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            yield given.decode(encoding)
        except UnicodeDecodeError as error:
            byte = done + len(line) - len(given) + error.start
            raise _not_encoded(
                f"{where}, line {number}, byte {byte}", given[error.start], encoding
            ) from error
        done += len(line)


def _wide_lines(file: BinaryIO, where: str, encoding: str) -> Iterator[str]:
    text = io.TextIOWrapper(file, encoding, newline="\n")
    try:
        for line in text:
            yield line.removeprefix("\ufeff")
    except UnicodeError as error:
        raise Stop(
            f"{where} is not {encoding}: {error}", "--encoding names another", USAGE
        ) from error
    finally:
        text.detach()  # whoever opened the file closes it


def _not_encoded(place: str, byte: int, encoding: str) -> Stop:
    convert = "iconv -f ISO-8859-1 -t UTF-8 FILE > NEW converts a Western European file"
    return Stop(
        f"{place}: 0x{byte:02x} is not {encoding.upper()}; nothing was loaded",
        f"--encoding names the file's own, such as latin-1, cp1252 or utf-16; {convert}",
        USAGE,
    )


def _ndjson(path: Path, encoding: str, log: RowLog) -> RowIterator:
    with _opened(path) as file:
        yield from _json_lines(_lines(file, str(path), encoding), str(path), log)


def _json_lines(lines: Iterable[str], where: str, log: RowLog) -> RowIterator:
    for number, line in enumerate(lines, 1):
        place = f"{where}, line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            log.reject("a line that is not JSON", f"{place} is not JSON: {error}")
            continue
        yield from _object(value, place, log)


def _object(value: object, place: str, log: RowLog) -> RowIterator:
    if isinstance(value, dict):
        log.saw(value)
        yield place, value
    else:
        log.reject(
            "no JSON object", f'{place} is no JSON object: expected {{"item_id": …, "title": …}}'
        )


def _array(path: Path, encoding: str, log: RowLog) -> RowIterator:
    with _opened(path) as file:
        text = "".join(_lines(file, str(path), encoding))
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Stop(f"{path} is not JSON: {error}", NAME_NDJSON, USAGE) from error
    if not isinstance(value, list):
        raise Stop(f"{path} is no JSON array", NAME_NDJSON, USAGE)
    for number, one in enumerate(value):
        yield from _object(one, f"{path}, entry {number}", log)


def _json_part(path: Path, encoding: str, log: RowLog) -> RowIterator:
    """Read a part of a folder: an array or, as Spark names it, lines."""
    with _opened(path) as file:
        begins = file.read(PEEK).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    yield from (_array if begins == b"[" else _ndjson)(path, encoding, log)


def _csv(path: Path, encoding: str, log: RowLog) -> RowIterator:
    with _opened(path) as file:
        yield from csv_rows(_lines(file, str(path), encoding), str(path), log)


def _parquet(path: Path, _: str, log: RowLog) -> RowIterator:
    with needing("a Parquet file", "train"):
        import polars as pl
        from polars.exceptions import PolarsError

    try:
        scan = pl.scan_parquet(path)
        log.saw(scan.collect_schema().names())
        number = 0
        for part in scan.collect_batches(chunk_size=10_000):
            for row in part.iter_rows(named=True):
                number += 1
                yield f"{path}, row {number}", row
    except (PolarsError, OSError) as error:
        raise Stop(
            f"{path} is no Parquet file that can be read: {error}", "write it again", USAGE
        ) from error


_READERS: dict[str, Callable[[Path, str, RowLog], RowIterator]] = {
    ".ndjson": _ndjson,
    ".jsonl": _ndjson,
    ".json": _array,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
TABLES: Sequence[str] = (".csv", ".tsv", ".parquet")
"""Forms with a header: what it does not name no row has."""


def is_table(source: RowSource) -> bool:
    """Whether the source has a header."""
    return bool(source.paths) and _suffix(source.paths[0]) in TABLES


def is_text_table(source: RowSource) -> bool:
    """Whether the source has a header, and all its values are text."""
    return is_table(source) and _suffix(source.paths[0]) != ".parquet"
