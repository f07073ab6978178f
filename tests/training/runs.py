"""Small runs: their configurations, and one that is cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.config import RunConfig
from training.progress import Reporter
from training.run_file import parse_config

HOULSBY = {
    "item": {"kind": "houlsby", "hidden": 8, "layers": 1},
    "user": {"kind": "houlsby", "hidden": 4},
}


def pretrain(log: Path, checkpoint: Path, output: Path, **train: Any) -> RunConfig:
    backbone = {"encoder": str(checkpoint), "width": 16, "max_history": 6, "max_tokens": 12}
    raw = {
        "stage": "pretrain",
        "output": str(output),
        "data": {"folder": str(log)},
        "backbone": backbone,
    }
    return parse_config(
        raw | {"train": {"epochs": 3, "embed_dtype": "float32", "batch_size": 16, **train}}
    )


def adapt(log: Path, backbone: Path, output: Path, adapter: Any = None, **train: Any) -> RunConfig:
    raw = {"stage": "adapt", "domain": "walk", "output": str(output), "data": {"folder": str(log)}}
    settings = {"epochs": 4, "embed_dtype": "float32", "batch_size": 16, "lr": 5e-3, **train}
    return parse_config(
        raw
        | {"backbone": {"folder": str(backbone)}, "adapter": adapter or HOULSBY, "train": settings}
    )


class Interrupting(Reporter):
    """A reporter that stops the run as Ctrl-C would, once some epochs are done."""

    def __init__(self, after: int) -> None:
        super().__init__("cut")
        self._after = after

    def epoch(self, epoch: int, items_per_second: float, curves: dict[str, list[float]]) -> None:
        """Stop after the checkpoint of this epoch."""
        super().epoch(epoch, items_per_second, curves)
        if epoch == self._after:
            raise KeyboardInterrupt
