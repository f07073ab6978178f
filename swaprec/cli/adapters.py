"""Bundles and versions: upload, look, make live, go back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from service.wire.responses import AdapterCard, VersionName
from swaprec import show
from swaprec.cards import COLUMNS, RIGHT, card_rows, figure_lines, list_notes, list_rows
from swaprec.cli.ask import parse_version
from swaprec.cli.options import (
    DomainArgument,
    ServiceOptions,
    Yes,
    complete_domain,
    complete_version,
    confirm,
    with_service_options,
)
from swaprec.grid import plain

if TYPE_CHECKING:
    from swaprec.publish import Published

versions = typer.Typer(
    help="Versions of a domain: list, show, download, delete.", no_args_is_help=True
)
VersionArgument = Annotated[
    int, typer.Argument(help="Which version.", autocompletion=complete_version)
]


@with_service_options
def push(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle, or the folder of the run that made it.")
    ],
    catalog: Annotated[
        bool, typer.Option("--catalog", help="Also load the run's catalog into the domain.")
    ] = False,
    activate: Annotated[
        bool, typer.Option("--activate", help="Make it live and wait for it.")
    ] = False,
    create: Annotated[
        bool, typer.Option("--create", help="Create the domain if it does not exist.")
    ] = False,
    *,
    service: ServiceOptions,
) -> None:
    """Upload a bundle to a running service."""
    from swaprec.publish import push

    with service.client() as client:
        done = push(
            client, bundle, catalog=catalog, activate=activate, create=create, console=show.talk()
        )
    _say_published(done, as_json=service.as_json)


@with_service_options
def publish(
    run: Annotated[Path, typer.Argument(help="A run's folder, or one that --to wrote.")],
    to: Annotated[
        Path | None,
        typer.Option(help="Write a folder to publish from later, instead of a service."),
    ] = None,
    activate: Annotated[bool, typer.Option(help="Make it live and wait for it.")] = True,
    create: Annotated[bool, typer.Option(help="Create the domain if it does not exist.")] = True,
    *,
    service: ServiceOptions,
) -> None:
    """Hand a run over: its catalog, its bundle and held-out probes,
    to a service or into a folder.
    """
    from swaprec.publish import handover, to_folder
    from swaprec.publish import publish as bring

    given = handover(run)
    if to is not None:
        place = to_folder(given, to)
        typer.echo(str(place))
        return
    with service.client() as client:
        done = bring(client, given, activate=activate, create=create, console=show.talk())
    _say_published(done, as_json=service.as_json)


@with_service_options
def probe(
    domain: DomainArgument,
    version: Annotated[
        str | None, typer.Option(help="A number, or none; the live one if not given.")
    ] = None,
    *,
    service: ServiceOptions,
) -> None:
    """Evaluate a version on the domain's held-out probes, by the path that answers requests."""
    wanted = None if version is None else cast("VersionName", parse_version(version))
    with service.client() as client:
        found = client.evaluate(domain, wanted)
    if service.as_json:
        show.emit_json(found)
        return
    rows = [
        (name, f"{value:.4f}" if isinstance(value, float) else str(value))
        for name, value in found.items()
    ]
    show.data().print(show.table("", ("", ""), rows))


@with_service_options
def activate(
    domain: DomainArgument,
    version: Annotated[
        str, typer.Argument(help="A number, or none.", autocompletion=complete_version)
    ],
    canary: Annotated[
        int, typer.Option(help="Answer so many of a hundred users only.", min=0, max=99)
    ] = 0,
    min_hr10: Annotated[
        float | None, typer.Option(help="Least HR@10 on the domain's probes.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Most that HR@10 may be below the live version's.")
    ] = None,
    *,
    service: ServiceOptions,
) -> None:
    """Make a version live, and wait until it is."""
    wanted = cast("VersionName", parse_version(version))
    asked = {"min_hr10": min_hr10, "max_drop": max_drop}
    gate = {name: value for name, value in asked.items() if value is not None} or None
    with service.client() as client:
        job = client.activate(
            domain, wanted, show.JobLines(show.talk()), canary_percent=canary, gate=gate
        )
    if service.as_json:
        show.emit_json(job)
    elif canary:
        typer.echo(
            f"{domain}@{version} is a canary for {canary} % of the users; the others get the live"
            " version"
        )
    else:
        typer.echo(f"{domain}@{version}")


@with_service_options
def promote(
    domain: DomainArgument,
    version: VersionArgument,
    *,
    service: ServiceOptions,
) -> None:
    """Make a canary live for everybody, at once."""
    with service.client() as client:
        answer = client.promote(domain, version)
    if service.as_json:
        show.emit_json(answer)
    else:
        typer.echo(f"{domain}@{answer['version']}")


@with_service_options
def rollback(
    domain: DomainArgument,
    *,
    service: ServiceOptions,
) -> None:
    """Go back, at once: end a canary or,
    without one, return to the version before; again: further back.
    """
    with service.client() as client:
        answer = client.rollback(domain)
    if service.as_json:
        show.emit_json(answer)
    else:
        typer.echo(f"{domain}@{answer['version']}")
    if skipped := answer.get("skipped_versions"):
        show.talk().print(f"passed over: {', '.join(map(str, skipped))}, deleted")


@versions.command("pin")
@with_service_options
def pin_version(
    domain: DomainArgument,
    version: VersionArgument,
    off: Annotated[bool, typer.Option("--off", help="Unpin it.")] = False,
    *,
    service: ServiceOptions,
) -> None:
    """Keep a version in memory, ready to answer, and undeleted."""
    with service.client() as client:
        card = client.pin(domain, version, pinned=not off)
    if service.as_json:
        show.emit_json(card)
    else:
        typer.echo(f"{domain}@{version} is {'pinned' if card['pinned'] else 'not pinned'}")


@versions.command("list")
@with_service_options
def list_versions(
    domain: Annotated[
        str | None,
        typer.Argument(help="Which domain; all if not given.", autocompletion=complete_domain),
    ] = None,
    *,
    service: ServiceOptions,
) -> None:
    """List versions with their metrics and what these
    were measured on; a star marks what is live.
    """
    with service.client() as client:
        cards = client.versions(domain)
    if service.as_json:
        show.emit_json(cards)
        return
    show.data().print(show.table("", COLUMNS, list_rows(cards), right=RIGHT))
    for note in list_notes(cards):
        show.data().print(plain(note))


@versions.command("show")
@with_service_options
def show_version(
    domain: DomainArgument,
    version: VersionArgument,
    *,
    service: ServiceOptions,
) -> None:
    """Show a version's card: kind, parameters, metrics, digest, bytes."""
    with service.client() as client:
        card = client.version(domain, version)
    if service.as_json:
        show.emit_json(card)
        return
    show.data().print(show.table("", ("", ""), card_rows(card)))


@versions.command()
@with_service_options
def download(
    domain: DomainArgument,
    version: VersionArgument,
    path: Annotated[Path, typer.Argument(help="Where the bundle is put.")],
    *,
    service: ServiceOptions,
) -> None:
    """Fetch a version's bundle."""
    with service.client() as client:
        client.download(domain, version, path)
    if service.as_json:
        show.emit_json({"path": str(path), "size": path.stat().st_size})
    else:
        typer.echo(str(path))


@versions.command()
@with_service_options
def delete(
    domain: DomainArgument,
    version: VersionArgument,
    yes: Yes = False,
    *,
    service: ServiceOptions,
) -> None:
    """Delete a version that is neither live nor what a rollback returns to."""
    confirm(f"Delete {domain}@{version}?", yes=yes)
    with service.client() as client:
        client.delete_version(domain, version)
    if service.as_json:
        show.emit_json({"deleted": f"{domain}@{version}"})


def _say_figures(card: AdapterCard) -> None:
    """Say what a version's figure was measured on, and which baselines it misses."""
    for line in figure_lines(card):
        show.talk().print(plain(line))


def _say_published(done: Published, *, as_json: bool) -> None:
    """Say which version it is; where rows of the catalog
    were rejected the command ends with another code.
    """
    _say_figures(done.card)
    if as_json:
        show.emit_json(done.card)
    else:
        typer.echo(f"{done.card['domain']}@{done.card['version']}")
    done.check()
