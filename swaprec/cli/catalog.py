"""Domains and their items."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from swaprec import show
from swaprec.cli.options import (
    DomainArgument,
    ServiceOptions,
    Yes,
    confirm,
    with_service_options,
)
from swaprec.import_report import check_complete, print_report, with_unread

domains = typer.Typer(help="Domains: list, show, create, delete.", no_args_is_help=True)
items = typer.Typer(help="The items of a domain: list, show, load.", no_args_is_help=True)
Limit = Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1)]


def _answering(domain: Mapping[str, Any]) -> str:
    """Return what a domain answers from, in a few words."""
    live = str(domain.get("live_version", ""))
    if not domain.get("canary_percent"):
        return live
    return f"{live}, canary {domain['canary_version']} ({domain['canary_percent']} %)"


@domains.command("list")
@with_service_options
def list_domains(
    *,
    service: ServiceOptions,
) -> None:
    """List domains and what they answer from."""
    with service.client() as client:
        found = client.domains()
    if service.as_json:
        show.emit_json(found)
        return
    rows = [
        (
            one["domain"],
            one["status"],
            _answering(one),
            f"{one['items']:,}",
            show.bytes_text(sum(one.get("memory_bytes", {}).values())),
            one["title"],
        )
        for one in found
    ]
    columns = ("domain", "status", "live", "items", "memory", "title")
    show.data().print(show.table("", columns, rows, right=(3, 4)))


@domains.command("show")
@with_service_options
def show_domain(
    domain: DomainArgument,
    *,
    service: ServiceOptions,
) -> None:
    """Show a domain: what it answers from, what a rollback returns to, what it takes."""
    with service.client() as client:
        found = client.domain(domain)
    if service.as_json:
        show.emit_json(found)
        return
    memory = ", ".join(
        f"{part} {show.bytes_text(size)}" for part, size in found.get("memory_bytes", {}).items()
    )
    rows = [
        ("domain", domain + (f" ({found['title']})" if found["title"] else "")),
        ("status", found["status"] + (f": {found['reason']}" if "reason" in found else "")),
        ("live", found.get("live_version", "")),
        *([("canary", show.canary(found))] if found.get("canary_percent") else []),
        ("rollback to", found.get("previous_version") or ""),
        ("versions", ", ".join(map(str, found["versions"]))),
        ("items", f"{found['items']:,} stored, {found.get('searchable_items', 0):,} searchable"),
        ("memory", memory),
        ("backbone", found["backbone"][:12]),
        ("created", found["created_at"]),
    ]
    show.data().print(show.table("", ("", ""), rows))


@domains.command()
@with_service_options
def create(
    domain: DomainArgument,
    title: Annotated[str, typer.Option(help="A title for people.")] = "",
    backbone: Annotated[
        str | None,
        typer.Option(help="Fingerprint or folder's name; needed where several are loaded."),
    ] = None,
    *,
    service: ServiceOptions,
) -> None:
    """Create a domain, or change its title; it answers at once, from the frozen backbone."""
    with service.client() as client:
        found = client.put_domain(domain, title, backbone)
    if service.as_json:
        show.emit_json(found)
    else:
        typer.echo(domain)


@domains.command()
@with_service_options
def delete(
    domain: DomainArgument,
    yes: Yes = False,
    *,
    service: ServiceOptions,
) -> None:
    """Delete a domain with its items, versions and vectors."""
    with service.client() as client:
        found = client.domain(domain)
        confirm(
            f"Delete {domain} with {found['items']:,} items and {len(found['versions'])} versions?",
            yes=yes,
        )
        client.delete_domain(domain)
    if service.as_json:
        show.emit_json({"deleted": domain})


@items.command("list")
@with_service_options
def list_items(
    domain: DomainArgument,
    limit: Limit = 20,
    *,
    service: ServiceOptions,
) -> None:
    """List items in the order in which they came."""
    with service.client() as client:
        found = list(islice(client.items(domain, min(limit, 1000)), limit))
    if service.as_json:
        show.emit_json(found)
        return
    rows = [(one["item_id"], one["metadata"].get("title", one["text"])) for one in found]
    show.data().print(show.table("", ("item", "title"), rows))


@items.command("show")
@with_service_options
def show_item(
    domain: DomainArgument,
    item_id: Annotated[str, typer.Argument(help="Which item.")],
    *,
    service: ServiceOptions,
) -> None:
    """Show an item as it is stored, with the text that is embedded."""
    with service.client() as client:
        found = client.item(domain, item_id)
    if service.as_json:
        show.emit_json(found)
        return
    rows = [
        ("item", item_id),
        ("text", " | ".join([found["text"]] if isinstance(found["text"], str) else found["text"])),
        ("popularity", f"{found['popularity']:g}"),
    ]
    rows += [(name, str(value)) for name, value in found["metadata"].items()]
    show.data().print(show.table("", ("", ""), rows))


@items.command("delete")
@with_service_options
def delete_item(
    domain: DomainArgument,
    item_id: Annotated[str, typer.Argument(help="Which item.")],
    yes: Yes = False,
    *,
    service: ServiceOptions,
) -> None:
    """Delete an item: it is gone from the next answer."""
    confirm(f"Delete item {item_id} of {domain}?", yes=yes)
    with service.client() as client:
        client.delete_item(domain, item_id)
    if service.as_json:
        show.emit_json({"deleted": item_id})


@items.command("load")
@with_service_options
def load_items(
    domain: DomainArgument,
    file: Annotated[
        Path,
        typer.Argument(
            help=(
                ".ndjson, .json, .csv or .parquet, also .gz; a folder of parts; - is NDJSON from"
                " stdin."
            )
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder or zip with the pictures that the column image names."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=COLUMN: read another column as a field; may be given again."),
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Of the file, such as latin-1 or utf-16.")
    ] = "utf-8",
    *,
    service: ServiceOptions,
) -> None:
    """Add or change items from a file and wait until they are searchable.

    Columns item_id, title, text, category, timestamp, popularity and available are the item's own;
    others become attributes. What has no column stays as it is stored; an empty cell gives a field
    its default. With rows that were rejected the exit code is 5, or 2 where all were.
    """
    from swaprec.row_log import RowLog
    from swaprec.rows import hints, parse_columns, read_rows, with_pictures

    log = RowLog()
    console = show.talk()
    try:
        rows = read_rows(file, log, encoding=encoding, columns=parse_columns(column or ()))
        rows = rows if images is None else with_pictures(rows, images)
        with service.client() as client:
            report = client.import_items(domain, rows, show.JobLines(console))
    finally:  # also where something else goes wrong
        for line in [*log.lines(), *hints(log)]:
            console.print(line)
    print_report(report, console)
    report = with_unread(report, log)
    if service.as_json:
        show.emit_json(report)
    else:
        counts = ("accepted", "updated", "unchanged", "rejected")
        numbers = [
            report["accepted"],
            report["updated"],
            report["unchanged"],
            report["rejected_count"],
        ]
        typer.echo(
            ", ".join(f"{number:,} {name}" for number, name in zip(numbers, counts, strict=True))
        )
    check_complete(report, str(file))
