"""A small log of CSV files, and what an import makes of it."""

from __future__ import annotations

from pathlib import Path

from training.cleaning import clean
from training.importers import read_tables
from training.importers.tables import Tables

ITEMS = "item_id,title\n1,One\n2,Two\n3,Three\n"


def csv_log(folder: Path, log: str, items: str = ITEMS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text(items, "utf-8")
    (folder / "interactions.csv").write_text(log, "utf-8")
    return folder


def imported(folder: Path, form: str = "csv", **columns: str) -> Tables:
    tables = clean(read_tables(form, folder, columns))
    assert tables.interactions.height >= 0  # the counts are complete once the chunks were read
    return tables


def rows(tables: Tables) -> list[tuple[str, str]]:
    return tables.interactions.select("user_id", "item_id").rows()
