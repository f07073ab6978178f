"""Train as one of several processes; `torchrun` starts this file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from training import loop
from training.run import run
from training.run_file import load_config

torch.set_num_threads(1)
kept: list[Any] = []
write = loop._checkpoint


def _die_after(*what: Any, **named: Any) -> None:
    """End at once, as a kill does, once so many checkpoints are written."""
    write(*what, **named)
    kept.append(what)
    if len(kept) == int(os.environ["DIE_AFTER"]):
        os._exit(9)


if "DIE_AFTER" in os.environ:
    loop._checkpoint = _die_after
result = run(load_config(Path(sys.argv[1])), resume="--resume" in sys.argv)
print("done", result.report["test"]["hr"])  # noqa: T201 - the test reads it
