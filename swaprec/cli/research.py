"""Research: experiments as files, and the page that shows what came of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from swaprec import show
from swaprec.cli.options import AsJson, complete_experiment
from swaprec.errors import USAGE, Stop
from training.names import packaged

FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="An experiment's TOML file, or the name of a packaged one.",
        autocompletion=complete_experiment,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value on the file, such as base.train.epochs=2 or seeds=[0]"),
]
Data = Annotated[Path, typer.Option(help="Where relative data folders start.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the runs; runs/NAME without it.")]
JobsOption = Annotated[int, typer.Option(min=1, help="Runs at once; they share the cores.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep what is finished, go on with what is not.")
]


def experiment(
    file: FileArgument,
    overrides: Overrides = None,
    data: Data = Path("data"),
    out: Out = None,
    jobs: JobsOption = 1,
    resume: Resume = False,
    only: Annotated[
        list[str] | None, typer.Option(help="axis=choice,choice: leave the others out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment: every combination of its axes, each run a process of its own.

    With a [search] in the file the smallest adapter within its margin of the best is searched
    instead.
    """
    from swaprec.experiment import check_data, run_experiment
    from swaprec.search import run_search
    from training.experiments import load_experiment

    path = _file(file)
    output = (out or Path("runs") / path.stem).resolve()
    if not resume and (output / "experiment.json").exists():
        raise Stop(
            f"{output} holds an experiment",
            "--resume goes on with it, --out names another folder",
            USAGE,
        )
    plan = load_experiment(path, data.resolve(), output, overrides or (), _choices(only or []))
    check_data(plan)
    console = show.talk()
    command = shlex.join(["swaprec", *sys.argv[1:]])
    tally = run_experiment(plan, output, jobs, console, command, runs=plan.search is None)
    found = None
    if plan.search is not None and not tally.failed:
        found = run_search(plan, plan.search, output, jobs, console)
    if as_json:
        failed = tally.failed
        kept = tally.kept
        show.emit_json(
            {
                "output": str(output),
                "done": tally.done,
                "kept": kept,
                "failed": failed,
                "search": found,
            }
        )
    else:
        if found is not None:
            show.data().print(
                show.table("", ("", ""), [(key, _number(value)) for key, value in found.items()])
            )
        typer.echo(
            f"{len(tally.done)} done, {len(tally.kept)} kept, {len(tally.failed)} failed in"
            f" {output}"
        )
    if tally.failed:
        name, why = next(iter(tally.failed.items()))
        raise Stop(
            f"{len(tally.failed)} runs failed, the first {name}: {why}",
            "mend it and run again with --resume",
        )


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs or experiments.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.")] = Path(
        "report"
    ),
    as_json: AsJson = False,
) -> None:
    """Show what came of runs: one page without network, and Markdown."""
    from training.report import write_report

    missing = [str(folder) for folder in runs if not folder.is_dir()]
    if missing:
        raise Stop(
            f"{', '.join(missing)}: no such folder", "give folders of runs or of experiments", USAGE
        )
    written = write_report(runs, out)
    if as_json:
        places = {"html": str(written.html), "markdown": str(written.markdown)}
        show.emit_json({"runs": written.runs, "unfinished": written.unfinished, **places})
        return
    console = show.talk()
    console.print(f"{written.runs} runs")
    for line in written.unfinished:
        console.print(f"not finished: {line}")
    typer.echo(str(written.html))


def _file(given: str) -> Path:
    path = Path(given)
    return path if path.is_file() else packaged().get(given, path)


def _choices(only: list[str]) -> Mapping[str, list[str]]:
    chosen = {}
    for entry in only:
        axis, equals, names = entry.partition("=")
        if not equals or not names:
            raise Stop(
                f"--only {entry}: expected axis=choice,choice",
                "for example --only method=houlsby,lora",
                USAGE,
            )
        chosen[axis] = names.split(",")
    return chosen


def _number(value: float) -> str:
    """Write a count whole and a measure with four digits."""
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
