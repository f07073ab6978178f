"""The program: all commands, and what happens when one of them fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from swaprec.cli import adapters, ask, catalog, keys, learn, operate, research
from swaprec.cli.explain import explained
from swaprec.errors import INTERRUPTED
from swaprec.extras import Extra, command_needing

app = typer.Typer(
    name="swaprec",
    help="Serve many recommendation domains from one frozen model, each a hot-swapped adapter.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"swaprec {version('swaprec')}")
        raise typer.Exit


@app.callback()
def swaprec(
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Serve many recommendation domains from one frozen model, each a hot-swapped adapter."""


_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": operate.demo,
    "seed": operate.seed,
    "serve": operate.serve,
    "doctor": operate.doctor,
    "restore": operate.restore,
    "train": learn.train,
    "evaluate": learn.evaluate,
    "import": learn.import_log,
    "import-peft": learn.import_peft,
    "params": learn.params,
    "experiment": research.experiment,
    "report": research.report,
    "push": adapters.push,
    "publish": adapters.publish,
    "probe": adapters.probe,
    "activate": adapters.activate,
    "promote": adapters.promote,
    "rollback": adapters.rollback,
    "recommend": ask.recommend,
    "similar": ask.similar,
    "compare": ask.compare,
}
_GROUPS = {
    "domains": catalog.domains,
    "items": catalog.items,
    "versions": adapters.versions,
    "jobs": operate.jobs,
    "keys": keys.app,
}
_EXTRAS: dict[str, tuple[Extra, ...]] = {
    "serve": ("serve",),
    "doctor": ("serve",),
    "restore": ("serve",),
    "train": ("train",),
    "evaluate": ("train",),
    "import": ("train",),
    "import-peft": ("train",),
    "params": ("train",),
    "experiment": ("train",),
    "report": ("train",),
}
"""What commands need beside the client.

Others need nothing, or an extra for some of their inputs.
"""

for name, command in _COMMANDS.items():
    app.command(name)(command_needing(command, name, *_EXTRAS.get(name, ())))
for name, group in _GROUPS.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run a command; whatever goes wrong ends in a message,
    a hint and an exit code, never in a traceback.
    """
    # Read when torch loads. Threads that spin while they wait make training several times slower on
    # a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("SWAPREC_DEBUG") == "1":
        app()
        return
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader has seen enough: swaprec items list movies | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - the last place where a person can be told
        code, message, hint = explained(error)
        typer.echo(f"error: {message}", err=True)
        if hint:
            typer.echo(f"hint: {hint}", err=True)
        sys.exit(code)
