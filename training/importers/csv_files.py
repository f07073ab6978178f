"""Two CSV files with a header: `items.csv` (item_id, title, …) and `interactions.csv` (user_id,
item_id, timestamp).

Either may be a folder of parts, each with its header.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from training.importers.columns import check_columns, missing, note_unread, ours, refuse
from training.importers.csv_rows import header_of, rows_of_length
from training.importers.tables import (
    CHUNK,
    LOG_COLUMNS,
    DataError,
    Source,
    Tables,
    files_of,
    in_chunks,
    numbered,
    there,
)
from training.rejections import Rejections

OPTIONAL_ITEMS = {"image": "items without a title are left out"}
OPTIONAL_LOG = {"timestamp": "the order of the file is taken as the order of events"}
"""Columns that a file may lack, and what happens then."""

TITLES = ("title", "movie_title", "name", "item_name")
_ROWS = "\0rows"
_TAIL_BYTES = 1 << 16


def read(source: Source) -> Tables:
    """Read the two files of a folder; quoted fields may hold commas and newlines.

    Without a column `timestamp` the order of the file is the order of events; a column that is
    probably meant is noted.

    Raises:
        DataError: a file is missing or not UTF-8, has no header, or lacks a column; with the
            problems of both.
    """
    items, log = (source.folder / f"{name}.csv" for name in ("items", "interactions"))
    headers: dict[str, list[str]] = {}
    problems: list[str] = []
    for what, path in (("file of items", items), ("file of interactions", log)):
        try:
            headers[what] = header_of(files_of(path, what)[0])
        except DataError as error:
            problems.append(str(error))
    refuse(source.folder, problems)
    names = [ours(header, source.columns) for header in headers.values()]
    names[0] = titled(names[0])
    problems = [
        *check_columns(source.columns, headers),
        *missing("the file of items", list(names[0].values()), ("item_id", "title")),
        *missing("the file of interactions", list(names[1].values()), ("user_id", "item_id")),
    ]
    refuse(source.folder, problems)
    note_unread("the file of items", list(names[0].values()), OPTIONAL_ITEMS, source.rejected)
    note_unread("the file of interactions", list(names[1].values()), OPTIONAL_LOG, source.rejected)
    catalog = csv_frame(items, names[0], source.rejected)
    wanted = {their: our for their, our in names[1].items() if our in LOG_COLUMNS}
    chunks = csv_chunks(log, wanted, source.rejected)
    timed = "timestamp" in wanted.values()
    return Tables(catalog, chunks if timed else numbered(chunks), source.rejected)


def titled(names: Mapping[str, str]) -> dict[str, str]:
    """Call the first of `TITLES` that a catalog has its title."""
    title = next((name for name in TITLES if name in names.values()), None)
    return {their: "title" if our == title else our for their, our in names.items()}


def csv_frame(path: Path, columns: Mapping[str, str], rejected: Rejections) -> pl.DataFrame:
    """Read a whole CSV file, as `csv_chunks` does."""
    chunks = list(csv_chunks(path, columns, rejected))
    return (
        pl.concat(chunks)
        if chunks
        else pl.DataFrame(schema=dict.fromkeys(columns.values(), pl.String))
    )


def csv_chunks(
    path: Path, columns: Mapping[str, str], rejected: Rejections
) -> Iterator[pl.DataFrame]:
    """Read columns of a CSV file with a header, as texts, under our names; a row of another length
    is rejected.

    Raises:
        DataError: it is not there or no CSV, or lacks a column.
    """
    parts = files_of(path, "CSV file")
    headers = [header_of(part) for part in parts]
    for part, names in zip(parts, headers, strict=True):
        refuse(part.parent, missing(part.name, names, list(columns)))
    wanted = [pl.col(theirs).alias(ours) for theirs, ours in columns.items()]
    return (
        chunk.select(wanted)
        for part, names in zip(parts, headers, strict=True)
        for chunk in _chunks(part, path.name, rejected, names, has_header=True)
    )


def headless_chunks(
    path: Path, names: Sequence[str], rejected: Rejections
) -> Iterator[pl.DataFrame]:
    """Read a CSV file without a header, as texts; a row of another length is rejected.

    Raises:
        DataError: it is not there or no CSV, or no row has so many fields.
    """
    found = False
    for chunk in _chunks(there(path), path.name, rejected, names, has_header=False):
        found = found or chunk.height > 0
        yield chunk
    if not found:
        raise DataError(f"{path}: expected rows of {', '.join(names)}, found none")


def _chunks(
    path: Path, name: str, rejected: Rejections, names: Sequence[str], *, has_header: bool
) -> Iterator[pl.DataFrame]:
    """Read by polars or, where it cannot read some row,
    row by row, so that bad ones are counted.
    """
    scan = pl.scan_csv(
        path, infer_schema=False, has_header=has_header, new_columns=list(names), glob=False
    )
    blank = _is_regular(scan, path, names)
    if blank is None:
        rows = rows_of_length(path, len(names), name, rejected, skip=int(has_header))
        yield from in_chunks(rows, dict.fromkeys(names, pl.String))
        return
    if blank:
        scan = scan.filter(pl.any_horizontal(pl.all().is_not_null()))
    yield from scan.collect_batches(chunk_size=CHUNK)


def _is_regular(scan: pl.LazyFrame, path: Path, names: Sequence[str]) -> int | None:
    """Return how many blank lines end a file that polars reads as it is, None where it has to be
    read row by row.

    Polars may lose rows before the one that it stumbles over: therefore the whole file is tried
    first. It fills up rows that are short: where the last column has gaps that are no blank lines
    at the end, rows are counted one by one.
    """
    last = names[-1]
    try:
        gaps = scan.select(pl.all().count(), pl.len().alias(_ROWS)).collect(engine="streaming")
        if gaps.width != len(names) + 1:
            return None
        if gaps[last][0] == gaps[_ROWS][0]:
            return 0
        blank = (
            scan.select(pl.all_horizontal(pl.all().is_null()).sum())
            .collect(engine="streaming")
            .item()
        )
    except PolarsError:
        return None
    regular = gaps[_ROWS][0] - gaps[last][0] == blank == _blank_lines_at_end(path)
    return blank if regular else None


def _blank_lines_at_end(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read().replace(b"\r", b"")
    return len(tail) - len(tail.rstrip(b"\n")) - 1
