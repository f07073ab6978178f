"""`swaprec seed`: make an empty service answer, once, without anybody asking for it.

A fresh service has no backbone and no domain. This fills it with what the demo trains: `adressa`,
whose headlines and log are invented, and two domains of films. `adressa` comes first and answers
from version `none` as soon as the backbone is there, from its adapter a little later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from swaprec.client import Client
from swaprec.demo import SOURCE, TARGETS, Recipe, prepare, shelve, title_of, train_target, trained
from swaprec.demo_show import load_catalog, publish
from swaprec.errors import Stop
from training.data import load_dataset

MARK = "seed-unfinished"
"""A file that is there from the first to the last step, so that a seed that was killed goes on."""

GOES_ON = "the service answers, but it has no domain yet: swaprec seed goes on where this ended"


def seed(
    client: Client,
    data: Path,
    folder: Path,
    console: Console,
    prepare: Callable[[Path], Recipe] = prepare,
) -> bool:
    """Fill a service that has no domain; return whether there was anything to do.

    Args:
        client: of the running service.
        data: its data folder, for the backbone.
        folder: where data and runs are kept; a second seed takes finished runs from there.
        console: receives a line for each step.
        prepare: brings the data and the encoder into `folder`.

    Raises:
        Stop: what is needed cannot be fetched; the service is as it was.
        ProblemError, Unreachable: the service refuses, or does not answer.
    """
    existing = [one["domain"] for one in client.domains()]
    mark = folder / MARK
    if existing and not mark.exists():
        console.print(f"nothing to do: there is {', '.join(existing)}")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    began = time.monotonic()
    try:
        recipe = prepare(folder)
    except Stop as error:
        raise Stop(f"nothing was seeded: {error}", f"{error.hint}; {GOES_ON}") from error
    _fill(client, data, recipe, console)
    mark.unlink()
    console.print(f"seeded {', '.join(TARGETS)} in {time.monotonic() - began:.0f} s")
    return True


def _fill(client: Client, data: Path, recipe: Recipe, console: Console) -> None:
    source = trained(recipe.config(SOURCE), console)
    shelve(source, data / "backbones")
    first = next(iter(TARGETS))
    dataset = load_dataset(recipe.config(first).data)
    load_catalog(client, first, title_of(first), dataset, source.report["backbone"])
    console.print(f"  {first}: answers from version none; its adapter is next")
    for name in TARGETS:
        publish(client, train_target(name, recipe, console), console)
