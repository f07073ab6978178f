"""Section: what the machine is."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.setup import Setup

PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "numpy",
    "faiss-cpu",
    "fastapi",
    "uvicorn",
    "httptools",
    "uvloop",
    "polars",
)


def measure(setup: Setup, report: SectionReport) -> None:
    """Name the card, the processors and the packages."""
    name = torch.cuda.get_device_name() if setup.device != "cpu" else "CPU"
    report.figure("card", name)
    report.figure("python", sys.version.split()[0])
    report.figure("packages", {package: _version(package) for package in PACKAGES})
    report.figure("processors", len(os.sched_getaffinity(0)))
    if setup.device != "cpu":
        report.figure("memory_gb", torch.cuda.get_device_properties(0).total_memory / 1e9)
    report.row(
        "card", f"{name}, torch {torch.__version__}, {len(os.sched_getaffinity(0))} processors"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
