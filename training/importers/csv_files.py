"""Two CSV files with a header: `items.csv` (item_id, title, …) and `interactions.csv` (user_id, item_id, timestamp)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from training.importers.tables import CHUNK, DataError, Tables, in_chunks, one_file, there, to_tables
from training.rejections import Rejections


def read(folder: Path) -> Tables:
    """Read the two files of a folder; quoted fields may hold commas and newlines.

    Raises:
        DataError: not one of each, not UTF-8, no header, or a column is missing.
    """
    rejected = Rejections()
    items = pl.concat(list(_rows(one_file(folder, "items.csv", "file of items"), rejected)))
    log = one_file(folder, "interactions.csv", "file of interactions")
    names = header_of(log)
    return to_tables(folder, items, names, csv_chunks(log, dict(zip(names, names, strict=True)), rejected), rejected)


def csv_frame(path: Path, columns: Mapping[str, str], rejected: Rejections) -> pl.DataFrame:
    """Read a whole CSV file, as `csv_chunks` does."""
    return pl.concat(list(csv_chunks(path, columns, rejected)))


def csv_chunks(path: Path, columns: Mapping[str, str], rejected: Rejections) -> Iterator[pl.DataFrame]:
    """Read columns of a CSV file with a header, as texts, under our names; a row of another length is rejected.

    Raises:
        DataError: it is not there or no CSV, or lacks a column.
    """
    names = header_of(there(path))
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(names)}")
    wanted = [pl.col(theirs).alias(ours) for theirs, ours in columns.items()]
    return (chunk.select(wanted) for chunk in _chunks(path, rejected))


def headless_chunks(path: Path, names: Sequence[str], rejected: Rejections) -> Iterator[pl.DataFrame]:
    """Read a CSV file without a header, as texts; a row of another length is rejected.

    Raises:
        DataError: it is not there or no CSV, or no row has so many fields.
    """
    found = False
    for chunk in _chunks(there(path), rejected, names):
        found = found or chunk.height > 0
        yield chunk
    if not found:
        raise DataError(f"{path}: expected rows of {', '.join(names)}, found none")


def header_of(path: Path) -> list[str]:
    """Read the names of a CSV file's columns.

    Raises:
        DataError: not UTF-8, or no header of different names.
    """
    return next(_rows(path, Rejections(), head_only=True)).columns


def _chunks(path: Path, rejected: Rejections, names: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
    """Read by polars or, where it cannot read some row, row by row, so that bad ones are counted.

    It may lose rows before the one that it stumbles over: therefore the whole file is tried first.
    """
    scan = pl.scan_csv(path, infer_schema=False, has_header=not names, new_columns=list(names) or None)
    try:
        regular = scan.select(pl.all().count()).collect(engine="streaming").width == len(names or header_of(path))
    except PolarsError:
        regular = False
    yield from scan.collect_batches(chunk_size=CHUNK) if regular else _rows(path, rejected, names)


def _rows(
    path: Path, rejected: Rejections, names: Sequence[str] = (), *, head_only: bool = False
) -> Iterator[pl.DataFrame]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = names or [name.strip() for name in next(reader, [])]
            if not names or len(set(names)) < len(names) or not all(names):
                found = ", ".join(names) or "an empty line"
                raise DataError(f"{path}: expected a header of different names, got {found}")
            rows = () if head_only else _of_length(reader, len(names), path.name, rejected)
            yield from in_chunks(rows, dict.fromkeys(names, pl.String))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it, for example with iconv") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; fields with quotes need them doubled") from error


def _of_length(reader: Any, length: int, name: str, rejected: Rejections) -> Iterator[list[str]]:
    for fields in reader:
        if len(fields) == length:
            yield fields
        elif fields:
            rejected.add(f"{name}: {length} fields expected", 1, f"line {reader.line_num}: {fields}")
