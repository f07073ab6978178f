"""What an import could not use: counted by kind, each with an example, never dropped in silence."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Rejections:
    """Counts and first examples by kind of rejected row."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, count: int, example: object) -> None:
        """Count rows of a kind; an example is kept of the first."""
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.examples.setdefault(kind, str(example)[:120])

    def lines(self) -> list[str]:
        """One line a kind, for people."""
        return [f"{count} times: {kind}, for example {self.examples[kind]}" for kind, count in self.counts.items()]

    def to_json(self) -> dict[str, dict[str, int | str]]:
        """Counts and examples as plain JSON."""
        return {kind: {"count": count, "example": self.examples[kind]} for kind, count in self.counts.items()}
