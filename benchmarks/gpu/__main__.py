"""`python -m benchmarks.gpu --out gpu.json`: the figures of one GPU, in under six minutes.

Every section runs in a process of its own with a limit, so that one that fails, hangs or leaves the
device unusable costs only itself. What a section has found until then is kept. Needs no network and
no data: weights are random, of real size. `--rehearse` runs everything small, on the CPU.

The last line is one JSON object with the value of every bar; it exits 0 when all hold
(`--rehearse`: when no section failed).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.bars import BARS
from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.sizes import REAL, REHEARSAL
from benchmarks.gpu.stand_ins import environment

LIMITS_S = {
    "card": 45.0,
    "equality": 60.0,
    "encoder": 90.0,
    "training": 90.0,
    "activation": 100.0,
    "serving": 50.0,
    "http_folder": 60.0,
    "http_service": 75.0,
}
"""Sections in the order in which they run, and how long each may take."""

PARALLEL_SECTIONS = ("http_folder",)
"""Sections that begin at once, on the CPU, beside the others."""

TOTAL_S = 345.0
REHEARSAL_FACTOR = 4
"""Times the limits that a rehearsal may take: it measures nothing, maybe on a busy machine."""
MIN_SECTION_S = 10.0
GRACE_S = 6.0
"""So long before its limit a section is asked to be done, its start included."""
LOG_LINES = 15
WIDTH = 58

Findings = dict[str, Any]


def main() -> int:
    """Run one section, or all of them in processes of their own."""
    options = _options()
    if options.section:
        _run_here(options)
        sys.stdout.flush()
        # Threads of the libraries may still run, and some of them abort an orderly exit.
        os._exit(0)
    return _run_all(options)


def _run_all(options: argparse.Namespace) -> int:
    began = time.monotonic()
    patience = REHEARSAL_FACTOR if options.rehearse else 1
    found = dict[str, Findings]()
    with tempfile.TemporaryDirectory(prefix="swaprec-gpu-") as folder, ExitStack() as running:
        sections = [_Section(name, Path(folder), options) for name in options.sections]
        for section in sections:
            running.callback(section.end)
            if section.name in PARALLEL_SECTIONS:
                section.start(patience * TOTAL_S)
        for section in sections:
            left = patience * TOTAL_S - (time.monotonic() - began)
            found[section.name] = section.run(min(patience * LIMITS_S[section.name], left))
            _print_section(section.name, found[section.name])
            _save(options.out, found)
    seconds = time.monotonic() - began
    print(f"\nall sections: {seconds:.0f} s")
    _save(options.out, found, seconds)
    summary = _summary(found)
    failed = any("errors" in one for one in found.values())
    print(json.dumps(summary), flush=True)
    return int(failed) if options.rehearse else int(not summary["holds"])


class _Section:
    """A section in a process of its own.

    Args:
        name: of the section.
        folder: for all sections' work.
        options: of the command line.
    """

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        self.name = name
        self._folder = folder
        self._rehearse: bool = options.rehearse
        self._part = folder / f"{name}.json"
        self._log = folder / f"{name}.log"
        self._began = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, limit_s: float) -> None:
        """Start it; it's asked to be done in time."""
        line = [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--section",
            self.name,
            "--out",
            str(self._part),
        ]
        line += ["--folder", str(self._folder), "--limit", str(limit_s)]
        line += ["--rehearse"] if self._rehearse else []
        variables = environment(self._folder / "stand-ins")
        if self._rehearse:  # small work beside other work: threads would wait for each other
            variables.setdefault("OMP_NUM_THREADS", "1")
        self._began = time.monotonic()
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                line, stdout=output, stderr=subprocess.STDOUT, env=variables, start_new_session=True
            )

    def run(self, limit_s: float) -> Findings:
        """Start it unless it runs, and wait; return what it found, and why it ended early."""
        if limit_s < MIN_SECTION_S:
            return {"errors": ["not run: the time for all sections is over"], "seconds": 0.0}
        try:
            if self._process is None:
                self.start(limit_s)
            ended = self._wait(limit_s)
        except OSError as error:
            ended = str(error)
        self.end()
        found: Findings = json.loads(self._part.read_text("utf-8")) if self._part.exists() else {}
        found["seconds"] = time.monotonic() - self._began
        if ended:
            there = self._log.read_text("utf-8", "replace") if self._log.exists() else ""
            lines = there.splitlines()[-LOG_LINES:]
            found.setdefault("errors", []).append("\n".join([ended, *lines]))
        return found

    def _wait(self, limit_s: float) -> str:
        """Return why it ended early, empty where it did not."""
        assert self._process is not None  # noqa: S101 - it was started
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_s:.0f} s"
        return "" if code == 0 else f"ended with code {code}"

    def end(self) -> None:
        """Kill what is left of its own process group."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _run_here(options: argparse.Namespace) -> None:
    """Run one section in this process."""
    report = SectionReport(options.out)
    ends = time.monotonic() + options.limit - GRACE_S
    try:
        from benchmarks.gpu.setup import Setup, last_lines

        device = _device(rehearse=options.rehearse)
        setup = Setup(REHEARSAL if options.rehearse else REAL, device, options.folder, ends)
    except Exception as error:  # noqa: BLE001 - it is kept as the section's result
        report.error(f"{type(error).__name__}: {error}")
        return
    try:
        section = importlib.import_module(f"benchmarks.gpu.{options.section}")
        section.measure(setup, report)
    except Exception as error:  # noqa: BLE001 - it is kept as the section's result
        report.error(last_lines(error))


def _device(*, rehearse: bool) -> str:
    import torch

    if rehearse:
        return "cpu"
    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no CUDA device; --rehearse runs on the CPU")
    return "cuda"


def _print_section(name: str, found: Findings) -> None:
    print(f"\n{name} ({found['seconds']:.0f} s)")
    for what, value in found.get("rows", []):
        print(f"  {what:{WIDTH}} {value}")
    for name_of, value in found.get("bars", {}).items():
        bar = BARS[name_of]
        sign = "≤" if bar.at_most else "≥"
        verdict = "holds" if bar.holds(value) else "does not hold"
        print(f"  bar: {bar.text}: {value:.3g}, {sign} {bar.target:g}: {verdict}")
    for error in found.get("errors", []):
        print("  error: " + "\n    ".join(error.splitlines()))
    sys.stdout.flush()


def _summary(found: dict[str, Findings]) -> Findings:
    """Return the last line: the value of every bar, None where it was not measured."""
    measured = {
        name: value for one in found.values() for name, value in one.get("bars", {}).items()
    }
    values = {name: measured.get(name) for name in BARS}
    card = found.get("card", {}).get("figures", {}).get("card", "an unknown card")
    return {
        "bar": f"figures of {card}",
        "value": values,
        "target": {name: bar.target for name, bar in BARS.items()},
        "holds": all(bar.holds(values[name]) for name, bar in BARS.items()),
    }


def _save(path: Path | None, found: dict[str, Findings], seconds: float | None = None) -> None:
    if path is not None:
        whole = {"seconds": seconds, "sections": found, "summary": _summary(found)}
        path.write_text(json.dumps(whole, indent=1), "utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="file of all figures, JSON")
    parser.add_argument("--rehearse", action="store_true", help="run everything small, on the CPU")
    parser.add_argument("--sections", nargs="+", choices=LIMITS_S, default=list(LIMITS_S))
    parser.add_argument("--section", choices=LIMITS_S, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
