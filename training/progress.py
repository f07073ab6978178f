"""What a person sees of a run: a live line on a terminal,
plain lines elsewhere, JSON lines in a file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.trackers import Tracker

LINE_EVERY_S = 10.0
"""Where there is no terminal, a long stage says how far it is this often."""


class Reporter:
    """Show how a run goes; a context manager.

    Args:
        name: of the run.
        console: where people look; None keeps silent.
        file: metrics as JSON lines.
    """

    def __init__(self, name: str, console: Console | None = None, file: Path | None = None) -> None:
        self._name = name
        self._console = console
        self._file = file
        self._live = console is not None and console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task(name, total=None, note="")
        self._began = time.monotonic()
        self._first = self._total = 0
        self._tracker: Tracker | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._tracker is not None:
            self._tracker.finish()

    def track(self, tracker: Tracker) -> None:
        """Send each epoch to a tracker, too."""
        self._tracker = tracker

    def stage(self, what: str) -> Callable[[int, int], None]:
        """Begin a stage such as `cache`; returns what to call with (done, total)."""
        self._bar.reset(self._task, description=f"{self._name}: {what}", total=None, note="")
        if not self._live:
            self._say(f"{self._name}: {what}")
        said_at = time.monotonic()

        def step(done: int, total: int) -> None:
            nonlocal said_at
            self._bar.update(self._task, completed=done, total=total)
            if not self._live and done < total and time.monotonic() - said_at > LINE_EVERY_S:
                said_at = time.monotonic()
                self._say(f"{self._name}: {what} {done / total:.0%}")

        return step

    def note(self, line: str) -> None:
        """Say something about the run in a line of its own."""
        self._say(f"{self._name}: {line}")

    def begin(self, epochs: int, done: int) -> None:
        """Begin the epochs; some may be done already."""
        self._began = time.monotonic()
        self._first = done
        self._total = epochs
        self._bar.reset(
            self._task, description=f"{self._name}: train", total=epochs, completed=done, note=""
        )

    def epoch(self, epoch: int, items_per_second: float, curves: dict[str, list[float]]) -> None:
        """Report a finished epoch."""
        validated = bool(curves["epoch"]) and curves["epoch"][-1] == epoch
        hr = f"HR@10 {curves['hr'][-1]:.4f}" if validated else ""
        left = (time.monotonic() - self._began) / (epoch - self._first) * (self._total - epoch)
        note = f"loss {curves['loss'][-1]:.4f} {hr} {items_per_second:,.0f} items/s"
        self._bar.update(self._task, completed=epoch, note=note)
        if not self._live:
            self._say(f"{self._name}: epoch {epoch}/{self._total} {note} {left:.0f} s left")
        row = {"loss": curves["loss"][-1], "items_per_second": items_per_second}
        row |= {"hr": curves["hr"][-1], "ndcg": curves["ndcg"][-1]} if validated else {}
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"epoch": epoch, **row}) + "\n")
        if self._tracker is not None:
            self._tracker.log(row, step=epoch)

    def _say(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line, highlight=False, markup=False)
