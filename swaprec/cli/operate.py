"""Running the service, and looking after it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from swaprec import show
from swaprec.cli.options import (
    AsJson,
    KeyOption,
    ServiceOptions,
    Url,
    address,
    complete_domain,
    with_service_options,
)
from swaprec.client import Client
from swaprec.client.wire import LOCAL
from swaprec.errors import FAILED, Stop
from swaprec.extras import needing

jobs = typer.Typer(help="Activations and imports: list, show, wait.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(help="The job's id, or its beginning.")]


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".swaprec/demo"),
    port: Annotated[
        int, typer.Option(help="Port of the service; a free one is taken if it is busy.")
    ] = 8000,
    keep: Annotated[bool, typer.Option(help="Leave the service up at the end.")] = True,
    stop: Annotated[bool, typer.Option("--stop", help="End the demo's service.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="SWAPREC_DEMO_URL", help="Fill this service; start none.", callback=address
        ),
    ] = None,
    data: Annotated[
        Path,
        typer.Option(
            envvar="SWAPREC_DATA", help="Data folder of the service at --url, to put a backbone in."
        ),
    ] = Path(".swaprec"),
    as_json: AsJson = False,
) -> None:
    """From real logs to live answers: fetch, train, serve, swap."""
    if stop:
        from swaprec import background

        ended = background.stop(folder)
        show.talk().print("ended" if ended else f"no service of {folder} runs")
        if as_json:
            show.emit_json({"stopped": ended})
        return
    with (
        needing("swaprec demo", "train")
        if url is not None
        else needing("swaprec demo", "serve", "train")
    ):
        from swaprec.demo import Running
        from swaprec.demo import demo as run_demo

        running = Running(url, data) if url is not None else None
        report = run_demo(
            folder.absolute(),
            port,
            show.talk() if as_json else show.data(),
            keep=keep,
            running=running,
        )
    if as_json:
        show.emit_json(report)


def seed(
    url: Url = LOCAL,
    key: KeyOption = "",
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".swaprec/demo"),
    data: Annotated[
        Path,
        typer.Option(
            envvar="SWAPREC_DATA", help="Data folder of the service, to put a backbone in."
        ),
    ] = Path(".swaprec"),
    on: Annotated[
        bool, typer.Option("--on/--off", envvar="SWAPREC_SEED", help="Whether to do anything.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Fill a service that has no domain: invented news as adressa, and films.

    Trains for some minutes at low priority. Where domains exist nothing is done.
    """
    console = show.talk() if as_json else show.data()
    if not on:
        console.print("seeding is off (SWAPREC_SEED=0)")
        if as_json:
            show.emit_json({"seeded": False})
        return
    with needing("swaprec seed", "train"):
        from swaprec.seed import seed as fill

    # the service that answers meanwhile comes first
    os.nice(10)
    with Client(url, key) as client:
        seeded = fill(client, data, folder.absolute(), console)
    if as_json:
        show.emit_json({"seeded": seeded})


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port.")] = None,
) -> None:
    """Run the service; docs/configuration.md lists its settings."""
    from service.server import serve as run_service
    from service.settings import Settings

    given: dict[str, Any] = {"host": host, "port": port, "data": data, "workers": workers}
    run_service(Settings(**{name: value for name, value in given.items() if value is not None}))


def doctor(
    data: Annotated[
        Path | None, typer.Option(help="Data folder; SWAPREC_DATA if not given.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="SWAPREC_URL", help="A running service to ask what it has.", callback=address
        ),
    ] = None,
    key: KeyOption = "",
    as_json: AsJson = False,
) -> None:
    """Look at what a service needs here and at what the running one has, and say what to do."""
    from swaprec.doctor import examine

    findings = examine(data, url, key)
    if as_json:
        show.emit_json([finding.to_json() for finding in findings])
    else:
        for finding in findings:
            typer.echo(show.hanging(finding.state, f"{finding.what}: {finding.found}"))
            if finding.advice:
                typer.echo(show.hanging("", finding.advice))
    bad = [finding.what for finding in findings if finding.state == "bad"]
    if bad:
        raise Stop(f"not right: {', '.join(bad)}", code=FAILED)


def restore(
    data: Annotated[
        Path | None, typer.Option(help="Data folder; SWAPREC_DATA if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring catalogs back into a state that was lost, from the snapshots in the data folder.

    No service may run.
    """
    from service.errors import StateError
    from service.settings import Settings
    from swaprec.restore import restore as restore_all

    try:
        found = restore_all(Settings() if data is None else Settings(data=data))
    except StateError as error:
        raise Stop(str(error)) from error
    if as_json:
        show.emit_json([asdict(one) for one in found])
    else:
        rows = [(one.domain, one.what, one.items, one.detail) for one in found]
        show.data().print(show.table("", ("domain", "", "items", ""), rows, right=(2,)))
    lost = [one.domain for one in found if one.what == "lost"]
    if lost:
        raise Stop(f"not restored: {', '.join(lost)}", code=FAILED)


@jobs.command("cancel")
@with_service_options
def cancel_job(
    job: JobId,
    *,
    service: ServiceOptions,
) -> None:
    """Cancel a job: at once if it waits, at its next step if it runs."""
    with service.client() as client:
        found = client.cancel(_whole(client, job))
    if service.as_json:
        show.emit_json(found)
    else:
        typer.echo(found["status"] if found["status"] == "cancelled" else "being cancelled")


@jobs.command("list")
@with_service_options
def list_jobs(
    domain: Annotated[
        str | None,
        typer.Argument(help="Which domain; all if not given.", autocompletion=complete_domain),
    ] = None,
    limit: Annotated[
        int, typer.Option("-n", "--limit", help="How many at most.", min=1, max=1000)
    ] = 20,
    *,
    service: ServiceOptions,
) -> None:
    """List jobs, newest first."""
    with service.client() as client:
        found = client.jobs(domain, limit)
    if service.as_json:
        show.emit_json(found)
        return
    rows = [
        (
            one["id"][:12],
            one["kind"],
            one["domain"],
            one["status"],
            show.progress(one),
            one["updated_at"][:19].replace("T", " "),
        )
        for one in found
    ]
    show.data().print(
        show.table("", ("job", "kind", "domain", "status", "progress", "updated"), rows)
    )


@jobs.command("show")
@with_service_options
def show_job(
    job: JobId,
    *,
    service: ServiceOptions,
) -> None:
    """Show a job: stage, progress, result or error."""
    with service.client() as client:
        found = client.job(_whole(client, job))
    if service.as_json:
        show.emit_json(found)
        return
    rows: list[tuple[str, object]] = [
        (name, found[name]) for name in ("id", "kind", "domain", "status")
    ]
    rows += [
        ("progress", show.progress(found)),
        ("created", found["created_at"]),
        ("updated", found["updated_at"]),
    ]
    for name, part in (
        ("detail", found["detail"]),
        ("result", found["result"]),
        ("error", found["error"]),
    ):
        rows += [(f"{name}.{field}", value) for field, value in (part or {}).items()]
    show.data().print(show.table("", ("", ""), rows))


@jobs.command("wait")
@with_service_options
def wait_for_job(
    job: JobId,
    *,
    service: ServiceOptions,
) -> None:
    """Wait until a job ended; the exit code says whether it succeeded."""
    with service.client() as client:
        found = client.wait(client.job(_whole(client, job)), show.JobLines(show.talk()))
    if service.as_json:
        show.emit_json(found)
    else:
        typer.echo(found["status"])


def _whole(client: Client, job_id: str) -> str:
    """Complete the beginning of an id."""
    fitting = [one["id"] for one in client.jobs(limit=1000) if one["id"].startswith(job_id)]
    return fitting[0] if len(fitting) == 1 else job_id
