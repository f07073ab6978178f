"""What every section is handed, and the small tools that they share."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.sizes import Sizes
from transrec.gpu import GPU_FAST

LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class Setup:
    """Sizes, the device, a work folder that sections share, and when a section should be done.

    `ends` is in seconds of `time.monotonic`.
    """

    sizes: Sizes
    device: str
    folder: Path
    ends: float

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.ends - time.monotonic()

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize()


@contextmanager
def gpu_fast(*, on: bool = True) -> Iterator[None]:
    """Do what is inside with `SWAPREC_GPU_FAST` on, or off."""
    before = os.environ.get(GPU_FAST)
    os.environ[GPU_FAST] = str(int(on))
    try:
        yield
    finally:
        if before is None:
            del os.environ[GPU_FAST]
        else:
            os.environ[GPU_FAST] = before


def last_lines(error: BaseException) -> str:
    """Return the end of an error's traceback."""
    return "\n".join("".join(traceback.format_exception(error)).splitlines()[-LAST_LINES:])


@contextmanager
def guarded(report: SectionReport, what: str) -> Iterator[None]:
    """Keep an error of a part of a section in its report, and go on behind the part."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the other parts are still measured
        report.error(f"{what}: {last_lines(error)}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
