"""What a GPU may do otherwise, off unless `SWAPREC_GPU_FAST=1`: it was measured as a prototype, not
yet as it stands.

Texts are embedded packed and tokenized ahead, token states lie on the card and train packed, steps
are recorded as graphs, and Adam is fused. On a CPU the switch changes nothing.
"""

from __future__ import annotations

import os

import torch

GPU_FAST = "SWAPREC_GPU_FAST"


def is_fast(device: torch.device) -> bool:
    """Whether a device is a GPU that may do all of this."""
    return device.type == "cuda" and os.environ.get(GPU_FAST) == "1"
