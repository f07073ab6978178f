"""What an import could not use: counted by kind, each with an example, never dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NAMELESS = "item without a title"
OF_NAMELESS = "interaction with an item that was left out"
MAX_EXAMPLE = 120
MAX_LINES = 20


@dataclass(slots=True)
class Rejections:
    """Counts and first examples by kind of row.

    A row is rejected where something is wrong with it. What a form leaves out by design, such as
    repeated rows, is a note: it is counted too, but nothing has to be mended.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)
    """Kinds that are notes."""

    def add(self, kind: str, count: int, example: object) -> None:
        """Count rows of a kind; an example is kept of the first."""
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.examples.setdefault(kind, _printable(str(example)[:MAX_EXAMPLE]))

    def note(self, kind: str, count: int, example: object) -> None:
        """Count rows of a kind that is a note."""
        self.noted.add(kind)
        self.add(kind, count, example)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Rejections:
        """Read the counts that `to_json` and `notes_to_json` gave, as `rejected` and `notes`."""
        found = cls()
        for key, count in (("rejected", found.add), ("notes", found.note)):
            for kind, one in value.get(key, {}).items():
                count(kind, one["count"], one["example"])
        return found

    @property
    def total(self) -> int:
        """Rejected rows of all kinds, without the notes."""
        return sum(count for kind, count in self.counts.items() if kind not in self.noted)

    def lines(self) -> list[str]:
        """One line a kind of rejected row, for people."""
        return self._lines([kind for kind in self.counts if kind not in self.noted])

    def notes(self) -> list[str]:
        """One line a note, for people."""
        return self._lines([kind for kind in self.counts if kind in self.noted])

    def to_json(self) -> dict[str, dict[str, int | str]]:
        """Counts and examples of rejected rows as plain JSON."""
        return self._json(noted=False)

    def notes_to_json(self) -> dict[str, dict[str, int | str]]:
        """Counts and examples of the notes as plain JSON."""
        return self._json(noted=True)

    def _lines(self, kinds: list[str]) -> list[str]:
        shown = [
            f"{self.counts[kind]} times: {kind}, for example {self.examples[kind]}"
            for kind in kinds[:MAX_LINES]
        ]
        return (
            shown
            if len(kinds) <= MAX_LINES
            else [*shown, f"and {len(kinds) - MAX_LINES} kinds more"]
        )

    def _json(self, *, noted: bool) -> dict[str, dict[str, int | str]]:
        return {
            kind: {"count": count, "example": self.examples[kind]}
            for kind, count in self.counts.items()
            if (kind in self.noted) == noted
        }


def _printable(text: str) -> str:
    """Escape control characters: an example is printed on a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
