"""The checkpoint of a run: a temporary file,
synced and renamed, so that a crash leaves the last good one.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from adapters_store.files import atomic_file

NAME = "checkpoint.pt"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or written."""


def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Replace the run's checkpoint.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written; the last checkpoint is
            intact.
    """
    try:
        with atomic_file(folder / NAME) as part, part.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch words a full disk as a RuntimeError
        raise CheckpointError(
            f"{folder} cannot take a checkpoint: {str(error).splitlines()[0]}"
        ) from error


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the run's checkpoint, None where there is none. Nothing but tensors and plain values is
    unpickled.

    Raises:
        CheckpointError: a file that is not one.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): delete it to start the run afresh"
        ) from error
    return content
