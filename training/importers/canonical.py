"""The canonical form: `items.parquet` (item_id, title, …) and `interactions.parquet` (user_id, item_id, timestamp)."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from training.importers.tables import DataError, Tables

_COLUMNS = {"items": ("item_id", "title"), "interactions": ("user_id", "item_id", "timestamp")}


def read(folder: Path) -> Tables:
    """Read a canonical folder.

    Raises:
        DataError: a file is missing or unreadable, or lacks a column.
    """
    items, interactions = (_read(folder / f"{name}.parquet", columns) for name, columns in _COLUMNS.items())
    return Tables(items, interactions)


def write(tables: Tables, folder: Path) -> None:
    """Write both files, each beside its place first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("items", tables.items), ("interactions", tables.interactions)):
        beside = folder / f".{name}.parquet.part"
        frame.write_parquet(beside)
        beside.rename(folder / f"{name}.parquet")


def _read(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} is not there: a canonical folder holds items.parquet and interactions.parquet")
    try:
        frame = pl.read_parquet(path)
    except (PolarsError, OSError) as error:
        raise DataError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(frame.columns)}")
    try:
        return frame.with_columns(pl.col(name).cast(pl.String) for name in columns if name != "timestamp")
    except PolarsError as error:
        raise DataError(f"{path}: ids and titles must be texts or numbers: {str(error).splitlines()[0]}") from error
