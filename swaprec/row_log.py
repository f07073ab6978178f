"""What reading a file of items found: rows that cannot be read, by kind, and what is to be said once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from training.rejections import Rejections

MAX_NAMES = 500


@dataclass(slots=True)
class RowLog:
    """Filled while rows are read; `columns` are those that a person named, by field."""

    read: int = 0
    rejected: Rejections = field(default_factory=Rejections)
    names: dict[str, None] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    short: int = 0
    short_example: str = ""
    notes: dict[str, None] = field(default_factory=dict)

    @property
    def rejected_count(self) -> int:
        """Rows that could not be read."""
        return sum(self.rejected.counts.values())

    def reject(self, kind: str, example: str) -> None:
        """Count a row that cannot be read."""
        self.rejected.add(kind, 1, example)

    def saw(self, names: Iterable[str]) -> None:
        """Remember names of columns, the first some hundred."""
        for name in names:
            if len(self.names) < MAX_NAMES:
                self.names.setdefault(name)

    def count_short(self, example: str) -> None:
        """Count a row that ends early."""
        self.short += 1
        self.short_example = self.short_example or example

    def note(self, text: str) -> None:
        """Say something once."""
        self.notes.setdefault(text)

    def lines(self) -> list[str]:
        """What a person should know, a line each; what was rejected last."""
        rows = "row has" if self.short == 1 else "rows have"
        short = [f"{self.short:,} {rows} fewer fields than the header, such as: {self.short_example}"]
        kinds = [
            f"not loaded: {count:,} {'row' if count == 1 else 'rows'}: {kind}, such as: {self.rejected.examples[kind]}"
            for kind, count in self.rejected.counts.items()
        ]
        return [*self.notes, *(short if self.short else []), *kinds]
