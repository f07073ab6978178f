"""The files of a backbone folder: their names, how weights are written, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
ALIGNMENT = 64
"""Bytes, of what torch allocates."""


def align(weights: Tensor) -> Tensor:
    """Return weights as torch's own memory lies:
    kernels of some processors round by alignment, in the last bit.
    """
    return weights if weights.data_ptr() % ALIGNMENT == 0 else weights.clone()


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write weights so that they are aligned where they are mapped;
    safetensors lets a header end with spaces.
    """
    content = save(state)
    length = int.from_bytes(content[:8], "little")
    spaces = -(8 + length) % ALIGNMENT
    with path.open("wb") as file:
        file.write(
            (length + spaces).to_bytes(8, "little") + content[8 : 8 + length] + b" " * spaces
        )
        file.write(memoryview(content)[8 + length :])


def files_of(folder: Path) -> tuple[str, ...]:
    """Name the files that the folder's backbone consists of."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        images_only = config.get("image") is not None and config.get("text") is None
    except (OSError, ValueError, AttributeError):
        images_only = False
    return (CONFIG, WEIGHTS) if images_only else (CONFIG, WEIGHTS, TOKENIZER)


def check_holds(folder: Path, fingerprint: str) -> None:
    """Check that a folder holds the backbone of a fingerprint.

    Raises:
        FileExistsError: it holds another one, or none.
    """
    whole = all((folder / name).is_file() for name in files_of(folder))
    found = fingerprint_of(folder) if whole else "nothing of ours"
    if found != fingerprint:
        raise FileExistsError(
            f"{folder} exists and holds {found[:12]}; move it away or choose another folder"
        )


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over the files of a backbone folder, 64 hex digits."""
    total = hashlib.sha256()
    for name in files_of(folder):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
