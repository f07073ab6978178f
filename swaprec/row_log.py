"""What reading a file of items found:
rows that cannot be read, by kind, and what is to be said once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from training.rejections import Rejections

MAX_NAMES = 500
MAX_COMPARED_IDS = 2_000_000
"""Ids that are remembered to find repeated ones: about 80 bytes each."""

MAX_REPEATED_SHOWN = 3


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
    repeated: int = 0
    repeated_examples: list[str] = field(default_factory=list)
    _id_hashes: set[int] = field(default_factory=set)

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

    def check_repeated(self, item_id: str, place: str) -> None:
        """Count a row whose id an earlier row has."""
        if (hashed := hash(item_id)) in self._id_hashes:
            self.repeated += 1
            if len(self.repeated_examples) < MAX_REPEATED_SHOWN:
                self.repeated_examples.append(place)
        elif len(self._id_hashes) < MAX_COMPARED_IDS:
            self._id_hashes.add(hashed)

    def note(self, text: str) -> None:
        """Say something once."""
        self.notes.setdefault(text)

    def lines(self) -> list[str]:
        """What a person should know, a line each; what was rejected last."""
        rows = "row has" if self.short == 1 else "rows have"
        short = [
            f"{self.short:,} {rows} fewer fields than the header, such as: {self.short_example}"
        ]
        repeated = (
            f"{self.repeated:,} {'row repeats' if self.repeated == 1 else 'rows repeat'} the id of"
            " an earlier row; "
        )
        repeated += f"the last row of an id is stored: {'; '.join(self.repeated_examples)}"
        repeated += ", …" if self.repeated > len(self.repeated_examples) else ""
        kinds = [
            f"not loaded: {count:,} {'row' if count == 1 else 'rows'}: {kind}, such as:"
            f" {self.rejected.examples[kind]}"
            for kind, count in self.rejected.counts.items()
        ]
        return [
            *self.notes,
            *(short if self.short else []),
            *([repeated] if self.repeated else []),
            *kinds,
        ]
