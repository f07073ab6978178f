"""The card's own speed: a large product of random bf16 matrices."""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.gpu.setup import Setup

WARM = 3
ROUNDS = 5
PRODUCTS = 10


def measure_peak(setup: Setup) -> float:
    """Return FLOP/s of a product of two matrices [n, n] in bfloat16, median of the rounds."""
    size = setup.sizes.peak
    left, right = (
        torch.randn(size, size, device=setup.device, dtype=torch.bfloat16) for _ in range(2)
    )
    for _ in range(WARM):
        left @ right
    seconds = []
    for _ in range(ROUNDS):
        setup.synchronize()
        started = time.perf_counter()
        for _ in range(PRODUCTS):
            left @ right
        setup.synchronize()
        seconds.append((time.perf_counter() - started) / PRODUCTS)
    return float(2 * size**3 / statistics.median(seconds))
