"""Asking a running service: recommendations, and versions side by side."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from service.wire.responses import Comparison, RecommendedItem
from swaprec import show
from swaprec.cli.options import (
    DomainArgument,
    HistoryArgument,
    ServiceOptions,
    with_service_options,
)
from swaprec.client.calls import ArmFields
from swaprec.errors import USAGE, Stop

KOption = Annotated[int, typer.Option("-k", help="How many.")]
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", help="A text that no catalog has; the newest of the history."),
]
Images = Annotated[
    list[Path] | None,
    typer.Option("--image", help="A picture that no catalog has; the newest of the history."),
]


@with_service_options
def recommend(
    domain: DomainArgument,
    history: HistoryArgument = None,
    text: Texts = None,
    image: Images = None,
    k: KOption = 10,
    version: Annotated[str | None, typer.Option(help="Pin a version, or none.")] = None,
    *,
    service: ServiceOptions,
) -> None:
    """Ask a running service for recommendations."""
    wishes = {} if version is None else {"version": parse_version(version)}
    with service.client() as client:
        entries = [*(history or ()), *_raw(text or (), image or ())]
        answer = client.recommend(domain, entries, k=k, include=["metadata"], **wishes)
    if service.as_json:
        show.emit_json(answer)
        return
    rows = [(item["rank"], item["item_id"], _title(item), _score(item)) for item in answer["items"]]
    title = f"{domain}, version {answer['version']}"
    if answer["fallback"]["used"]:
        title += f", popular items ({answer['fallback']['reason']})"
    if answer["unknown_items"]:
        show.talk().print(f"not in the catalog: {', '.join(answer['unknown_items'])}")
    show.data().print(show.table(title, ("rank", "item", "title", "score"), rows, right=(0, 3)))


@with_service_options
def similar(
    domain: DomainArgument,
    item: Annotated[str | None, typer.Argument(help="An item of the catalog.")] = None,
    text: Annotated[str | None, typer.Option(help="Or a text.")] = None,
    image: Annotated[Path | None, typer.Option(help="Or a picture.")] = None,
    k: KOption = 10,
    *,
    service: ServiceOptions,
) -> None:
    """Find the items nearest to an item, a text or a picture."""
    raw = {
        name: value
        for one in _raw([text] if text else (), [image] if image else ())
        for name, value in one.items()
    }
    if (item is None) == (not raw):
        raise Stop("expected either an item, or --text or --image", code=USAGE)
    with service.client() as client:
        answer = client.similar(domain, item if item is not None else raw, k, ["metadata"])
    if service.as_json:
        show.emit_json(answer)
        return
    rows = [
        (
            one["rank"],
            one["item_id"],
            str(one.get("metadata", {}).get("title", "")),
            f"{one['score']:.3f}",
        )
        for one in answer["items"]
    ]
    title = f"{domain}, version {answer['version']}"
    show.data().print(show.table(title, ("rank", "item", "title", "cosine"), rows, right=(0, 3)))


@with_service_options
def compare(
    domain: DomainArgument,
    history: HistoryArgument = None,
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", help="A version, none, or popular; all in memory if not given."),
    ] = None,
    k: KOption = 10,
    *,
    service: ServiceOptions,
) -> None:
    """Show what several versions recommend, side by side."""
    with service.client() as client:
        answer = client.compare(
            domain, history or [], [_arm(arm) for arm in arms or ()], k, ["metadata"]
        )
    if service.as_json:
        show.emit_json(answer)
    else:
        _show(answer)


def parse_version(text: str) -> int | str:
    """Read a version.

    Raises:
        Stop: neither a number nor none.
    """
    if text != "none" and not text.isdecimal():
        raise Stop(
            f"version {text!r}: expected a number or none",
            "swaprec versions list shows them",
            USAGE,
        )
    return text if text == "none" else int(text)


def _raw(texts: Iterable[str], images: Iterable[Path]) -> list[dict[str, str]]:
    """Return history entries for what no catalog has."""
    entries = [{"text": text} for text in texts]
    for path in images:
        try:
            entries.append({"image_b64": base64.b64encode(path.read_bytes()).decode()})
        except OSError as error:
            raise Stop(f"{path} cannot be read: {error.strerror}", code=USAGE) from error
    return entries


def _arm(text: str) -> ArmFields:
    return {"strategy": text} if text == "popular" else {"version": parse_version(text)}


def _show(answer: Comparison) -> None:
    names = [arm["name"] for arm in answer["arms"]]
    columns = [[_title(item) or item["item_id"] for item in arm["items"]] for arm in answer["arms"]]
    table = [
        (place + 1, *(_at(column, place) for column in columns)) for place in range(answer["k"])
    ]
    show.data().print(show.table(answer["domain"], ("rank", *names), table, right=(0,)))
    shares = [[f"{share:.2f}" for share in row] for row in answer["overlap_at_k"]]
    overlaps = [(name, *row) for name, row in zip(names, shares, strict=True)]
    show.data().print(
        show.table(
            f"overlap at {answer['k']}", ("", *names), overlaps, right=range(1, len(names) + 1)
        )
    )


def _at(column: Sequence[str], place: int) -> str:
    return column[place] if place < len(column) else ""


def _title(item: RecommendedItem) -> str:
    return str(item.get("metadata", {}).get("title", ""))


def _score(item: RecommendedItem) -> str:
    return "" if item["score"] is None else f"{item['score']:.3f}"
