"""The command line: `swaprec COMMAND`. Data goes to stdout, talk to stderr; `--json` prints one document.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no service answers, 4 the service refused, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from swaprec import show
from swaprec.client import Client, check_url
from swaprec.errors import FAILED, INTERRUPTED, REFUSED, UNREACHABLE, USAGE, ProblemError, Stop, Unreachable

app = typer.Typer(
    name="swaprec",
    help="Serve many recommendation domains from one frozen model, each a hot-swapped adapter.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _address(url: str | None) -> str | None:
    try:
        return check_url(url) if url is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Url = Annotated[str, typer.Option(envvar="SWAPREC_URL", help="Address of the service.", callback=_address)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
LOCAL = "http://127.0.0.1:8000"
HINTS = {
    "domain_not_found": "swaprec push RUN --catalog --create makes the run's domain",
    "incompatible_bundle": "train it on the backbone that the domain runs, or send it again",
    "queue_full": "wait a second",
    "domain_loading": "wait until GET /readyz answers 200",
    "state_unavailable": "the service's Redis does not answer; once it does, send it again",
    "state_lost": "bring back the Redis that the service wrote to; docs/configuration.md, State in Redis",
    "out_of_space": "make room in the service's data folder, or in its Redis; nothing was changed",
    "internal": "the service's log has it",
}
"""What to do about what the service refuses, by the problem's code, where its detail does not say."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".swaprec/demo"),
    port: Annotated[int, typer.Option(help="Port of the service; a free one is taken if it is busy.")] = 8000,
    keep: Annotated[bool, typer.Option(help="Leave the service up at the end.")] = True,
    stop: Annotated[bool, typer.Option("--stop", help="End the demo's service.")] = False,
    as_json: AsJson = False,
) -> None:
    """From real logs to live recommendations: fetch, train, serve, swap."""
    if stop:
        from swaprec import background

        ended = background.stop(folder)
        show.talk().print("ended" if ended else f"no service of {folder} runs")
        if as_json:
            show.emit_json({"stopped": ended})
        return
    from swaprec.demo import demo as run_demo

    report = run_demo(folder.absolute(), port, show.talk() if as_json else show.data(), keep=keep)
    if as_json:
        show.emit_json(report)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Run the service; every setting can also come from SWAPREC_… (docs/configuration.md)."""
    from pydantic import ValidationError

    from service.server import serve as run_service
    from service.settings import Settings

    given: dict[str, Any] = {"host": host, "port": port, "data": data}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors())
        raise Stop(told, "docs/configuration.md lists every setting", USAGE) from error
    run_service(settings)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pretrain a backbone or train an adapter, as a TOML file says."""
    from training.config import load_config
    from training.progress import Reporter
    from training.run import run

    loaded = load_config(config, overrides or ())
    console = show.talk()
    result = run(loaded, Reporter(loaded.domain, console, loaded.output / "metrics.jsonl"), resume=resume)
    for line in result.report["data"]["rejected"].items():
        console.print(f"not used: {line[1]['count']} times {line[0]}, for example {line[1]['example']}")
    if as_json:
        show.emit_json(result.report | {"artifact": str(result.artifact)})
        return
    rows = [(loaded.domain, show.interval(result.report["test"]), f"{result.report['test']['ndcg']:.4f}")]
    for name, report in result.report["baselines"].items():
        rows.append((name.replace("_", "-"), show.interval(report), f"{report['ndcg']:.4f}"))
    show.data().print(show.table("", ("", "HR@10 [95 %]", "NDCG@10"), rows, right=(2,)))
    typer.echo(str(result.artifact))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …, with a TOML file.")] = None,
    against: Annotated[str | None, typer.Option(help="Ask this service too, and compare.", callback=_address)] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run's bundle on the held-out users; with --against through a running service, too."""
    from swaprec.evaluation import evaluate_run

    compared = evaluate_run(run, overrides or (), against, show.talk())
    if as_json:
        show.emit_json(compared)
    else:
        rows = [
            (side, show.interval(compared[side]), f"{compared[side]['ndcg']:.4f}", compared[side]["tied_users"])
            for side in ("offline", "served")
            if side in compared
        ]
        show.data().print(show.table("", ("", "HR@10 [95 %]", "NDCG@10", "tied"), rows, right=(2, 3)))
    if against is not None and not compared["agrees"]:
        raise Stop(
            f"the two sides differ by {compared['difference']:.4f}", "is the same bundle live, in the same dtype?"
        )


@app.command()
def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or the folder of the run that made it.")],
    catalog: Annotated[bool, typer.Option("--catalog", help="Also load the run's catalog into the domain.")] = False,
    activate: Annotated[bool, typer.Option("--activate", help="Make it live and wait for it.")] = False,
    create: Annotated[bool, typer.Option("--create", help="Create the domain if it does not exist.")] = False,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Upload a bundle to a running service."""
    from swaprec.publish import publish

    with Client(url) as client:
        card = publish(client, bundle, catalog=catalog, activate=activate, create=create, console=show.talk())
    if as_json:
        show.emit_json(card)
    else:
        typer.echo(f"{card['domain']}@{card['version']}")


@app.command("import")
def import_log(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="canonical, adapter4rec or recbole.")],
    source: Annotated[Path, typer.Argument(help="Folder of the log.")],
    destination: Annotated[Path, typer.Argument(help="Folder for items.parquet and interactions.parquet.")],
    as_json: AsJson = False,
) -> None:
    """Bring an interaction log into the canonical form."""
    from training.cleaning import clean
    from training.importers import canonical, read_tables

    tables = clean(read_tables(form, source))
    canonical.write(tables, destination)
    for line in tables.rejected.lines():
        show.talk().print(f"not used: {line}")
    counts = {"items": tables.items.height, "interactions": tables.interactions.height}
    if as_json:
        show.emit_json(counts | {"rejected": tables.rejected.to_json()})
    else:
        typer.echo(f"{counts['items']} items, {counts['interactions']} interactions in {destination}")


@app.command()
def recommend(
    domain: Annotated[str, typer.Argument(help="Which domain.")],
    history: Annotated[list[str] | None, typer.Argument(help="Item ids, oldest first.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Ask a running service for recommendations."""
    with Client(url) as client:
        answer = client.recommend(domain, history or [], k=k, include=["metadata"])
    if as_json:
        show.emit_json(answer)
        return
    rows = [
        (
            item["rank"],
            item["item_id"],
            item["metadata"].get("title", ""),
            "" if item["score"] is None else f"{item['score']:.3f}",
        )
        for item in answer["items"]
    ]
    title = f"{domain}, version {answer['version']}"
    if answer["fallback"]["used"]:
        title += f", popular items ({answer['fallback']['reason']})"
    show.data().print(show.table(title, ("rank", "item", "title", "score"), rows, right=(0, 3)))


def main() -> None:
    """Run a command; whatever goes wrong ends in a message, a hint and an exit code, never in a traceback."""
    # Read when torch loads. Threads that spin while they wait make training several times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("SWAPREC_DEBUG") == "1":
        app()
        return
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last place where a person can be told
        code, message, hint = explained(error)
        typer.echo(f"error: {message}", err=True)
        if hint:
            typer.echo(f"hint: {hint}", err=True)
        sys.exit(code)


def explained(error: Exception) -> tuple[int, str, str]:
    """Return exit code, message and hint of an error."""
    code, message, hint = FAILED, str(error) or type(error).__name__, ""
    if isinstance(error, Stop):
        code, hint = error.code, error.hint
    elif isinstance(error, Unreachable):
        code, hint = UNREACHABLE, "swaprec serve starts one; --url or SWAPREC_URL says where it is"
    elif isinstance(error, ProblemError):
        code, hint = REFUSED, HINTS.get(error.code, "")
        message += "".join(
            f"\n  {'.'.join(map(str, one.get('loc', [])))}: {one.get('msg', '')}" for one in error.errors
        )
    elif isinstance(error, ModuleNotFoundError):
        hint = "pip install 'swaprec[train]' brings what training needs"
    elif type(error).__name__ == "ConfigError":
        code, hint = USAGE, "docs/training.md lists every key of a run's file"
    elif not _meant_for_people(error):
        message, hint = f"{type(error).__name__}: {error}", "SWAPREC_DEBUG=1 shows where"
    return code, message, hint


def _meant_for_people(error: Exception) -> bool:
    """Whether somebody worded it: our own errors (known by module, without loading it) and the system's."""
    ours = ("training.", "transrec.", "service.", "adapters_store.")
    return isinstance(error, OSError) or type(error).__module__.startswith(ours)
