"""Figures of one GPU in one command: `python -m benchmarks.gpu --out gpu.json`."""
