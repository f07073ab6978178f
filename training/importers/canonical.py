"""The canonical form: `items.parquet` (item_id, title, …) and `interactions.parquet` (user_id, item_id, timestamp)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError
from pyarrow.parquet import ParquetWriter

from training.importers.tables import CHUNK, LOG_COLUMNS, DataError, Tables

_COLUMNS = {"items": ("item_id", "title"), "interactions": ("user_id", "item_id", "timestamp")}


def read(folder: Path) -> Tables:
    """Read a canonical folder.

    Raises:
        DataError: a file is missing or unreadable, or lacks a column.
    """
    items, log = (_scan(folder / f"{name}.parquet", columns) for name, columns in _COLUMNS.items())
    return Tables(items.collect(), _batches(folder / "interactions.parquet", log.select(LOG_COLUMNS)))


def write(tables: Tables, folder: Path) -> dict[str, int]:
    """Write both files, each beside its place first; a chunk of the log at a time. Returns how many rows each has."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = {name: folder / f".{name}.parquet.part" for name in _COLUMNS}
    try:
        counts = {
            "items": _write(beside["items"], iter([tables.items])),
            "interactions": _write(beside["interactions"], tables.chunks()),
        }
        for name, path in beside.items():
            path.rename(folder / f"{name}.parquet")
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)
    return counts


def _write(path: Path, frames: Iterator[pl.DataFrame]) -> int:
    first, count = next(frames).to_arrow(), 0
    with ParquetWriter(path, first.schema, compression="zstd") as file:
        for table in itertools.chain([first], (frame.to_arrow() for frame in frames)):
            file.write_table(table)
            count += table.num_rows
    return count


def _batches(path: Path, log: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    try:
        yield log.head(0).collect()
        yield from log.collect_batches(chunk_size=CHUNK)
    except PolarsError as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}; fetch it again") from error


def _scan(path: Path, columns: tuple[str, ...]) -> pl.LazyFrame:
    if not path.is_file():
        raise DataError(f"{path} is not there: a canonical folder holds items.parquet and interactions.parquet")
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
    except (PolarsError, OSError) as error:
        raise DataError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from error
    missing = [name for name in columns if name not in schema.names()]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(schema.names())}")
    named = [name for name in columns if name != "timestamp"]
    strange = [f"{name} is {schema[name]}" for name in named if schema[name].is_nested()]
    if strange:
        raise DataError(f"{path}: ids and titles must be texts or numbers: {', '.join(strange)}")
    return frame.with_columns(pl.col(name).cast(pl.String) for name in named)
