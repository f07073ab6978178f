"""What every importer returns, and the errors they share."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from training.rejections import Rejections


class DataError(ValueError):
    """Data that cannot be used; says where, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Tables:
    """A log as read.

    `items` has `item_id`, `title` and further columns, `interactions` has `user_id`, `item_id`, `timestamp`, in the
    file's order. All ids and texts are strings.
    """

    items: pl.DataFrame
    interactions: pl.DataFrame
    rejected: Rejections = field(default_factory=Rejections)


TITLES = ("title", "movie_title", "name", "item_name")


def to_tables(folder: Path, items: pl.DataFrame, log: pl.DataFrame, rejected: Rejections) -> Tables:
    """Name the columns of two files as we name them: the title is the first of `TITLES` that is there.

    Without a column `timestamp` the order of the file is the order of events.

    Raises:
        DataError: columns that are missing, in both files at once.
    """
    title = next((name for name in TITLES if name in items.columns), None)
    lacks = [name for name, there in (("item_id", "item_id" in items.columns), ("title", title)) if not there]
    missing = [name for name in ("user_id", "item_id") if name not in log.columns]
    problems = [
        f"the file of {what} lacks {', '.join(names)}; it has {', '.join(frame.columns)}"
        for what, names, frame in (("items", lacks, items), ("interactions", missing, log))
        if names
    ]
    if problems or title is None:
        raise DataError(f"{folder}: {'; '.join(problems)}")
    if "timestamp" not in log.columns:
        log = log.with_row_index("timestamp")
    return Tables(items.rename({title: "title"}), log.select("user_id", "item_id", "timestamp"), rejected)


def lines_of(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """Read the lines of a file; only a newline ends one, whatever a title contains.

    Raises:
        DataError: it is not in that encoding.
    """
    try:
        text = path.read_text(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it, for example with iconv") from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


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
    """Read a file without a header, one row a line; further fields of a line are left out, shorter lines rejected.

    Raises:
        DataError: it is not there, or not in that encoding.
    """
    rows = []
    for number, line in enumerate(lines_of(there(path), encoding), 1):
        fields = line.split(separator)
        if len(fields) >= len(names):
            rows.append(fields[: len(names)])
        elif line.strip():
            rejected.add(f"{path.name}: {len(names)} fields expected", 1, f"line {number}: {line}")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


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
