"""Small files of items, and the items that are read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swaprec.cells import json_row
from swaprec.row_log import RowLog
from swaprec.rows import read_rows


def items(path: Path, log: RowLog | None = None, **how: Any) -> list[dict[str, Any]]:
    return [json_row(row) for row in read_rows(path, log, **how)]


def csv_file(folder: Path, content: str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_text(content, "utf-8", newline="")
    return path
