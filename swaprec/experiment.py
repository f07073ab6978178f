"""Running an experiment: each run a process of its own,
several at once, and a failed one does not stop the others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from adapters_store.files import atomic_write
from swaprec.errors import USAGE, Stop
from swaprec.show import interval
from training.checkpoint import NAME as CHECKPOINT
from training.config import RunConfig
from training.datasets import find_missing
from training.experiments import CACHE, Experiment, Planned
from training.figures import compare_with_baselines
from training.run import CONFIG, finished

EXPERIMENT = "experiment.json"
LOG = "log.txt"
REQUEST = "request.json"
MAX_COMMANDS = 50


@dataclass(slots=True)
class Tally:
    """What became of the runs."""

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_experiment(
    experiment: Experiment,
    output: Path,
    jobs: int,
    console: Console,
    command: str,
    *,
    runs: bool = True,
) -> Tally:
    """Run what is not there yet: the pretrainings, then all else.

    Args:
        experiment: what to run.
        output: its folder.
        jobs: runs at once; they share the machine's cores.
        console: shows each run as it ends.
        command: the line that began it, for the record.
        runs: False for the pretrainings alone.
    """
    output.mkdir(parents=True, exist_ok=True)
    _record(experiment, output, command)
    tally = Tally()
    workers = RunPool(jobs, console)
    try:
        workers.run(experiment.sources.values(), tally)
        if not runs:
            return tally
        ready = [
            run
            for run in experiment.runs
            if run.source is None or finished(experiment.sources[run.source].config)
        ]
        for run in experiment.runs:
            if run not in ready:
                tally.failed[run.name] = f"its source {run.source} failed"
        workers.run(ready, tally)
    finally:
        workers.stop()
    if not tally.failed:
        shutil.rmtree(output / CACHE, ignore_errors=True)
    return tally


def check_data(experiment: Experiment) -> None:
    """Check, before anything runs, that all data and encoders of what is not finished are there.

    Raises:
        Stop: with everything that is missing, and how to get it.
    """
    planned = [*experiment.sources.values(), *experiment.runs]
    missing = find_missing(
        (run.name, run.config) for run in planned if finished(run.config) is None
    )
    if missing:
        listed = "".join(f"\n  {line}" for line in missing)
        hint = "docs/experiments.md describes every data set; --data says where the folders lie"
        raise Stop(
            f"nothing was run: of what the runs read, {len(missing)} are missing{listed}",
            hint,
            USAGE,
        )


class RunPool:
    """Threads that each wait for one training process."""

    def __init__(self, jobs: int, console: Console) -> None:
        self._jobs = jobs
        self._console = console
        self._threads = max(1, (os.cpu_count() or 1) // jobs)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, runs: Iterable[Planned], tally: Tally) -> None:
        """Run all, and note in `tally` what became of each."""
        runs = list(runs)
        with ThreadPoolExecutor(self._jobs) as pool:
            waiting: dict[Future[str | None], Planned] = {}
            for run in runs:
                if finished(run.config) is not None:
                    tally.kept.append(run.name)
                else:
                    waiting[pool.submit(self.train, run.config)] = run
            for number, (run, failure) in enumerate(_as_they_end(waiting), 1):
                if failure is None:
                    tally.done.append(run.name)
                else:
                    tally.failed[run.name] = failure
                self._print(f"{number}/{len(waiting)} {run.name}: {failure or _result(run.config)}")

    def train(self, config: RunConfig) -> str | None:
        """Train in a process; returns why it failed, None where it did not."""
        if self._stopped:
            return "not begun"
        config.output.mkdir(parents=True, exist_ok=True)
        request = config.output / REQUEST
        log = config.output / LOG
        request.write_text(config.model_dump_json(indent=1), "utf-8")
        _drop_another(config)
        self._print(f"{config.output.name} begins, its log is {log}")
        line = [sys.executable, "-m", "swaprec", "train", str(request), "--resume", "--json"]
        threads = str(config.train.threads or self._threads)
        environment = os.environ | {"OMP_NUM_THREADS": threads, "NO_COLOR": "1"}
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command
                line, stdout=subprocess.DEVNULL, stderr=output, env=environment
            )
            self._running.add(process)
            code = process.wait()
            self._running.discard(process)
        return None if code == 0 else f"{_last_line(log)} (exit {code}; {log})"

    def stop(self) -> None:
        """End what still runs; checkpoints stay."""
        self._stopped = True
        for process in list(self._running):
            process.terminate()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _as_they_end(
    waiting: dict[Future[str | None], Planned],
) -> Iterator[tuple[Planned, str | None]]:
    left = set(waiting)
    while left:
        done, left = wait(left, return_when=FIRST_COMPLETED)
        for future in done:
            yield waiting[future], future.result()


def _drop_another(config: RunConfig) -> None:
    """Forget the checkpoint of another configuration:
    `finished` has found that its result is not this run's.
    """
    described = config.output / CONFIG
    if described.is_file() and described.read_text("utf-8") != config.model_dump_json(indent=1):
        for name in (CHECKPOINT, CONFIG):
            (config.output / name).unlink(missing_ok=True)
        shutil.rmtree(config.output / "backbone", ignore_errors=True)


def _record(experiment: Experiment, output: Path, command: str) -> None:
    """Write what the folder holds: the runs and commands of this call,
    and those of earlier ones with other choices.
    """
    path = output / EXPERIMENT
    earlier: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    runs = [
        {"name": run.name, "choices": run.choices, "seed": run.config.seed}
        for run in experiment.runs
    ]
    commands = [
        *earlier.get("commands", [earlier["command"]] if "command" in earlier else []),
        command,
    ]
    content: dict[str, Any] = {
        "title": experiment.title,
        "question": experiment.question,
        "command": command,
        "commands": list(dict.fromkeys(commands))[-MAX_COMMANDS:],
        "began_at": time.time(),
        "runs": _with_earlier(runs, earlier.get("runs", []), output),
        "sources": list(dict.fromkeys([*earlier.get("sources", []), *experiment.sources])),
    }
    atomic_write(path, json.dumps(content, indent=1).encode())


def _with_earlier(
    runs: list[dict[str, Any]], earlier: list[dict[str, Any]], output: Path
) -> list[dict[str, Any]]:
    """Return this call's runs after those of earlier calls that have left something."""
    names = {run["name"] for run in runs}
    axes = {tuple(run["choices"]) for run in runs}
    kept = [
        run
        for run in earlier
        if run["name"] not in names
        and tuple(run["choices"]) in axes
        and (output / run["name"]).is_dir()
    ]
    return [*kept, *runs]


def _result(config: RunConfig) -> str:
    found = finished(config)
    if found is None:
        return "nothing was written"
    said = compare_with_baselines(found.report["test"], found.report["baselines"]).rstrip(".")
    return f"{said or 'HR@10 ' + interval(found.report['test'])}, {found.report['seconds']:,.0f} s"


def _last_line(log: Path) -> str:
    lines = [
        line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()
    ]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1][:500]
