"""The canonical form: `items.parquet` (item_id, title, …) and `interactions.parquet` (user_id,
item_id, timestamp).

Either may be a folder of parts, as Spark writes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError
from pyarrow.parquet import ParquetWriter

from adapters_store.files import atomic_file
from training.importers.columns import check_columns, missing, note_unread, ours, refuse
from training.importers.csv_files import OPTIONAL_ITEMS
from training.importers.tables import CHUNK, LOG_COLUMNS, DataError, Source, Tables, files_of
from training.rejections import Rejections

_COLUMNS = {"items": ("item_id", "title"), "interactions": ("user_id", "item_id", "timestamp")}


def read(source: Source) -> Tables:
    """Read a canonical folder.

    Raises:
        DataError: a file is missing or unreadable, or lacks a column; with the problems of both
            files.
    """
    scans: dict[str, pl.LazyFrame] = {}
    problems: list[str] = []
    for name in _COLUMNS:
        try:
            scans[name] = _scan(source.folder / f"{name}.parquet")
        except DataError as error:
            problems.append(str(error))
    refuse(source.folder, problems)
    headers = {f"{name}.parquet": scan.collect_schema().names() for name, scan in scans.items()}
    problems = check_columns(source.columns, headers)
    for name, scan in scans.items():
        renamed = ours(headers[f"{name}.parquet"], source.columns)
        scans[name] = scan.select(pl.col(their).alias(our) for their, our in renamed.items())
        problems += missing(f"{name}.parquet", list(renamed.values()), _COLUMNS[name])
    refuse(source.folder, problems)
    refuse(
        source.folder,
        [problem for name in _COLUMNS for problem in _strange(name, scans[name].collect_schema())],
    )
    note_unread(
        "items.parquet", scans["items"].collect_schema().names(), OPTIONAL_ITEMS, source.rejected
    )
    items, log = (_with_texts(scans[name], name, source.rejected) for name in _COLUMNS)
    return Tables(
        pl.concat(list(_batches(source.folder / "items.parquet", items))),
        _batches(source.folder / "interactions.parquet", log.select(LOG_COLUMNS)),
        source.rejected,
    )


def write(tables: Tables, folder: Path) -> dict[str, int]:
    """Write both files, each beside its place first; a chunk of the log at a time.

    Returns how many rows each has.
    """
    with (
        atomic_file(folder / "interactions.parquet", sync=False) as interactions,
        atomic_file(folder / "items.parquet", sync=False) as items,
    ):
        return {
            "items": _write(items, iter([tables.items])),
            "interactions": _write(interactions, tables.chunks()),
        }


def _write(path: Path, frames: Iterator[pl.DataFrame]) -> int:
    first = next(frames).to_arrow()
    count = 0
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
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; write or fetch it again"
        ) from error


def _scan(path: Path) -> pl.LazyFrame:
    parts = files_of(path, "Parquet file")
    try:
        frame = pl.scan_parquet(parts, glob=False)
        frame.collect_schema()
    except (PolarsError, OSError) as error:
        raise DataError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from error
    return frame


def _strange(name: str, schema: pl.Schema) -> list[str]:
    """Return the problems of columns that hold no ids or titles."""
    texts = [column for column in _COLUMNS[name] if column != "timestamp"]
    strange = [f"{column} is {schema[column]}" for column in texts if not _is_text(schema[column])]
    return (
        [f"{name}.parquet: ids and titles must be texts or numbers: {', '.join(strange)}"]
        if strange
        else []
    )


def _is_text(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null, pl.Binary)


def _with_texts(frame: pl.LazyFrame, name: str, rejected: Rejections) -> pl.LazyFrame:
    """Read ids and titles as texts: the number 7.0 of a column of floats is 7."""
    schema = frame.collect_schema()
    for column in _COLUMNS[name]:
        if column.endswith("_id") and schema[column].is_float():
            rows = frame.select(pl.len()).collect().item()
            rejected.note(
                f"{column} of a column of floats in {name}.parquet", rows, "1.0 is read as 1"
            )
    return frame.with_columns(
        _as_text(column, schema[column]) for column in _COLUMNS[name] if column != "timestamp"
    )


def _as_text(column: str, kind: pl.DataType) -> pl.Expr:
    values = pl.col(column)
    if not kind.is_float():
        return values.cast(pl.String, strict=kind != pl.Binary)
    whole = pl.when(values == values.round(0)).then(
        values.cast(pl.Int64, strict=False).cast(pl.String)
    )
    return pl.when(values.is_finite()).then(pl.coalesce(whole, values.cast(pl.String)))
