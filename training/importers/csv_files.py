"""Two CSV files with a header: `items.csv` (item_id, title, …) and `interactions.csv` (user_id, item_id, timestamp)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from training.importers.tables import DataError, Tables, one_file, there, to_tables
from training.rejections import Rejections


def read(folder: Path) -> Tables:
    """Read the two files of a folder; quoted fields may hold commas and newlines.

    Raises:
        DataError: not one of each, not UTF-8, no header, or a column is missing.
    """
    rejected = Rejections()
    items = _read(one_file(folder, "items.csv", "file of items"), rejected)
    log = _read(one_file(folder, "interactions.csv", "file of interactions"), rejected)
    return to_tables(folder, items, log, rejected)


def csv_frame(path: Path, columns: Mapping[str, str], rejected: Rejections) -> pl.DataFrame:
    """Read columns of a CSV file with a header, as texts, under our names; a row of another length is rejected.

    Raises:
        DataError: it is not there or no CSV, or lacks a column.
    """
    try:
        frame = pl.read_csv(there(path), infer_schema=False)
    except PolarsError:  # some row has too many fields: row by row they are counted
        frame = _read(path, rejected)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(frame.columns)}")
    return frame.select(pl.col(theirs).alias(ours) for theirs, ours in columns.items())


def headless_frame(path: Path, names: Sequence[str], rejected: Rejections) -> pl.DataFrame:
    """Read a CSV file without a header, as texts; a row of another length is rejected.

    Raises:
        DataError: it is not there or no CSV, or no row has so many fields.
    """
    try:
        frame = pl.read_csv(there(path), has_header=False, infer_schema=False)
    except PolarsError:  # some row has too many fields: row by row they are counted
        frame = _read(path, rejected, names)
    if frame.width != len(names) or not frame.height:
        raise DataError(f"{path}: expected rows of {', '.join(names)}, found {frame.height} of {frame.width} fields")
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _read(path: Path, rejected: Rejections, names: Sequence[str] = ()) -> pl.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = names or [name.strip() for name in next(reader, [])]
            if not names or len(set(names)) < len(names) or not all(names):
                found = ", ".join(names) or "an empty line"
                raise DataError(f"{path}: expected a header of different names, got {found}")
            rows = []
            for fields in reader:
                if len(fields) == len(names):
                    rows.append(fields)
                elif fields:
                    rejected.add(f"{path.name}: {len(names)} fields expected", 1, f"line {reader.line_num}: {fields}")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it, for example with iconv") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; fields with quotes need them doubled") from error
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
