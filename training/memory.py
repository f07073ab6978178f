"""How much memory a training takes."""

from __future__ import annotations

import resource

import torch


def peak_memory(device: torch.device | None = None) -> float:
    """Return the most memory in MB that this process has held so far,
    on a GPU what torch has taken of it.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
