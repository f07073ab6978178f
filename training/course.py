"""How far a run has come: epochs, curves, and what it took over all of its stretches.

A run that is interrupted and resumed has several stretches, each a process of its own. The
checkpoint carries the sum of the earlier ones, so that a resumed run reports what the whole of it
took.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Stretch:
    """One process's part of a run: when it began,
    and the memory in MB that it held before anything was trained.
    """

    began: float = field(default_factory=time.monotonic)
    memory_floor_mb: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self.began


@dataclass(slots=True)
class Course:
    """Where a run stands; all of it is in the checkpoint."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_hr: float = -1.0
    seconds: float = 0.0
    """In epochs of all stretches, without validation."""
    memory_mb: float = 0.0
    """Most memory that a process held while it trained; of a GPU's, what torch took of it."""
    memory_floor_mb: float = 0.0
    """What the process of that peak held before anything was trained."""
    stretches: int = 1
    """How many processes it took."""
    earlier_seconds: float = 0.0
    """Of the stretches before this one, each up to its last checkpoint."""
    earlier_epochs: int = 0
    """Epochs that the stretches before this one finished."""
    curves: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "epoch": [], "hr": [], "ndcg": []}
    )

    @classmethod
    def resume(cls, kept: Mapping[str, Any], stretch: Stretch) -> Course:
        """Go on, in a new stretch, from what `to_checkpoint` returned."""
        course = cls(**kept)
        course.stretches += 1
        course.earlier_epochs = course.epoch
        if "earlier_seconds" not in kept:
            # A checkpoint of an earlier release: it knows of the epochs only, and of no floor.
            course.earlier_seconds = course.seconds
            course.memory_floor_mb = stretch.memory_floor_mb
        return course

    def to_checkpoint(self, stretch: Stretch) -> dict[str, Any]:
        """Return plain values, the running stretch's seconds among the earlier ones."""
        return asdict(self) | {"earlier_seconds": self.earlier_seconds + stretch.seconds}

    def note_memory(self, peak_mb: float, stretch: Stretch) -> None:
        """Keep the highest peak above its own process's floor."""
        if peak_mb - stretch.memory_floor_mb > self.memory_mb - self.memory_floor_mb:
            self.memory_mb = peak_mb
            self.memory_floor_mb = stretch.memory_floor_mb

    def stalled(self, patience: int) -> bool:
        """Whether validation has not improved for `patience` epochs (0: never)."""
        return 0 < patience <= self.epoch - self.best_epoch
