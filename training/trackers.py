"""Where else a run's metrics go, if asked: TensorBoard or MLflow, through Accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class TrackerError(RuntimeError):
    """A tracker that cannot be opened."""


class Tracker(Protocol):
    """What metrics are sent to."""

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Note values at a step, here an epoch."""
        ...

    def finish(self) -> None:
        """Write what is left and close."""
        ...


def open_tracker(kind: str, name: str, folder: Path) -> Tracker:
    """Open `tensorboard` (event files in `folder`) or `mlflow` (where its own environment variables
    say).

    Raises:
        TrackerError: the package is not installed.
    """
    from accelerate import tracking, utils

    there = (
        utils.is_tensorboard_available() if kind == "tensorboard" else utils.is_mlflow_available()
    )
    if not there:
        raise TrackerError(f"train.track = {kind!r}: {kind} is not installed; pip install {kind}")
    if kind == "tensorboard":
        tracker: Any = tracking.TensorBoardTracker(name, str(folder / "tensorboard"))
    else:
        tracker = tracking.MLflowTracker(name)
    tracker.start()
    opened: Tracker = tracker
    return opened
