"""What a section found, on disk as soon as it is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class SectionReport:
    """Figures, lines of the table and values of bars, kept in a JSON file.

    Args:
        path: of the file; it is whole after every call.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {"figures": {}, "rows": [], "bars": {}}

    def figure(self, name: str, value: object) -> None:
        """Keep a figure, as JSON."""
        self._found["figures"][name] = value
        self._write()

    def row(self, what: str, value: str) -> None:
        """Keep a line of the table."""
        self._found["rows"].append([what, value])
        self._write()

    def bar(self, name: str, value: float) -> None:
        """Keep the value that a bar is compared with."""
        self._found["bars"][name] = round(value, 4)
        self._write()

    def error(self, text: str) -> None:
        """Keep why the section, or a part of it, ended early."""
        self._found.setdefault("errors", []).append(text)
        self._write()

    def _write(self) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._found), "utf-8")
        part.replace(self._path)
