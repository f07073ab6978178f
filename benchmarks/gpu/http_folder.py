"""Section: the data folder that `http_service` serves from,
filled on the CPU beside the other sections.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.setup import Setup
from benchmarks.many_domains import fill

NICE = 10


def measure(setup: Setup, report: SectionReport) -> None:
    """Fill the folder."""
    os.nice(NICE)
    began = time.monotonic()
    fill(folder_of(setup), setup.sizes.http_domains, setup.sizes.http_items, setup.device)
    seconds = time.monotonic() - began
    report.figure("filled_s", seconds)
    report.row(f"{setup.sizes.http_domains:,} domains filled beside the others", f"{seconds:.0f} s")


def folder_of(setup: Setup) -> Path:
    """Return the data folder of the service."""
    return setup.folder / "http"
