"""What the sections are measured against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: a value of at least `target`, or with `at_most` of at most that."""

    text: str
    target: float
    at_most: bool = False

    def holds(self, value: float | None) -> bool:
        """Return whether a value meets the bar; one that was not measured does not."""
        if value is None:
            return False
        return value <= self.target if self.at_most else value >= self.target


BARS = {
    "titles": Bar(
        "BERT-base titles per second / sentence-transformers at its best batch, bf16", 3.0
    ),
    "peak_share": Bar("FLOPs of unpadded tokens / the card's measured bf16 matrix peak", 0.35),
    "activation_s": Bar("seconds to activate 100,000 items", 15.0, at_most=True),
    "houlsby": Bar("a houlsby step / the paper's scheme, times as fast", 8.0),
    "side": Bar("a side step / the paper's scheme, times as fast", 50.0),
}
