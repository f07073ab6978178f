"""What each method asks: both clients send these, so that they cannot differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from service.wire.responses import (
    AdapterCard,
    Comparison,
    Domain,
    Embedded,
    Evaluated,
    Info,
    Item,
    Job,
    Page,
    ProbeCount,
    Readiness,
    Recommendation,
    RolledBack,
    Similar,
    VersionName,
)
from swaprec.cells import json_row
from swaprec.client.arguments import (
    HistoryValue,
    as_list,
    check_probes,
    check_wishes,
    checked_id,
    entries,
    entry,
    unencodable,
    unsendable,
)

T = TypeVar("T")
ArmFields = Mapping[str, Any]
OnJob = Callable[[Job], object]
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request whose answer is a JSON object of type T;
    `repeatable` where sending it twice does no harm.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    repeatable: bool = False
    request: dict[str, Any] = field(default_factory=dict)


def recommend(
    domain: str, history: Sequence[HistoryValue], k: int, wishes: Mapping[str, Any]
) -> Call[Recommendation]:
    """`POST /recommend`: it changes nothing, so that it may be repeated."""
    body = {"history": entries(history, "history"), "k": k, **check_wishes(wishes)}
    return Call(
        "POST", "/recommend", repeatable=True, request={"params": {"domain": domain}, "json": body}
    )


def compare(
    domain: str,
    history: Sequence[HistoryValue],
    arms: Sequence[ArmFields],
    k: int,
    include: Sequence[str],
) -> Call[Comparison]:
    """`POST /compare`."""
    body = {
        "history": entries(history, "history"),
        "arms": as_list(arms, "arms", '[{"version": 3}]'),
        "k": k,
        "include": as_list(include, "include", '["metadata"]'),
    }
    return Call(
        "POST", "/compare", repeatable=True, request={"params": {"domain": domain}, "json": body}
    )


def similar(domain: str, query: HistoryValue, k: int, include: Sequence[str]) -> Call[Similar]:
    """`POST /similar`."""
    checked = entry(query, "query")
    named = {"item_id": checked} if isinstance(checked, str) else checked
    body = {**named, "k": k, "include": as_list(include, "include", '["metadata"]')}
    return Call(
        "POST", "/similar", repeatable=True, request={"params": {"domain": domain}, "json": body}
    )


def embed(domain: str, items: Sequence[HistoryValue]) -> Call[Embedded]:
    """`POST /embed`."""
    body = {"items": entries(items, "items")}
    return Call(
        "POST", "/embed", repeatable=True, request={"params": {"domain": domain}, "json": body}
    )


def put_domain(domain: str, title: str, backbone: str | None) -> Call[Domain]:
    """`PUT /domains/{domain}`."""
    return Call(
        "PUT",
        f"/domains/{_part(domain)}",
        repeatable=True,
        request={"json": {"title": title, "backbone": backbone}},
    )


def domains() -> Call[Page[Domain]]:
    """`GET /domains`."""
    return Call("GET", "/domains", repeatable=True)


def domain(name: str) -> Call[Domain]:
    """`GET /domains/{domain}`."""
    return Call("GET", f"/domains/{_part(name)}", repeatable=True)


def delete_domain(name: str) -> Call[None]:
    """`DELETE /domains/{domain}`."""
    return Call("DELETE", f"/domains/{_part(name)}")


def rollback(domain: str) -> Call[RolledBack]:
    """`POST /domains/{domain}/rollback`."""
    return Call("POST", f"/domains/{_part(domain)}/rollback")


def import_items(domain: str, content: object) -> Call[Job]:
    """`POST /domains/{domain}/items`,
    as a job, since embedding may take longer than a connection waits.
    """
    request = {"params": {"wait": "false"}, "content": content, "headers": {"Content-Type": NDJSON}}
    return Call("POST", f"/domains/{_part(domain)}/items", request=request)


def put_probes(domain: str, probes: Sequence[Mapping[str, Any]]) -> Call[ProbeCount]:
    """`PUT /domains/{domain}/probes`."""
    return Call(
        "PUT",
        f"/domains/{_part(domain)}/probes",
        repeatable=True,
        request={"json": check_probes(probes)},
    )


def count_probes(domain: str) -> Call[ProbeCount]:
    """`GET /domains/{domain}/probes`."""
    return Call("GET", f"/domains/{_part(domain)}/probes", repeatable=True)


def evaluate(domain: str, version: VersionName | None, k: int) -> Call[Evaluated]:
    """`POST /domains/{domain}/evaluate`."""
    body = {"version": version, "k": k}
    return Call(
        "POST", f"/domains/{_part(domain)}/evaluate", repeatable=True, request={"json": body}
    )


def items(domain: str, limit: int, cursor: str | None) -> Call[Page[Item]]:
    """`GET /domains/{domain}/items`."""
    params: dict[str, str | int] = (
        {"limit": limit} if cursor is None else {"limit": limit, "cursor": cursor}
    )
    return Call(
        "GET", f"/domains/{_part(domain)}/items", repeatable=True, request={"params": params}
    )


def item(domain: str, item_id: str) -> Call[Item]:
    """`GET /domains/{domain}/items/{item_id}`."""
    return Call("GET", f"/domains/{_part(domain)}/items/{_item_part(item_id)}", repeatable=True)


def put_item(domain: str, item_id: str, item: Mapping[str, Any]) -> Call[Item]:
    """`PUT /domains/{domain}/items/{item_id}`."""
    path = f"/domains/{_part(domain)}/items/{_item_part(item_id)}"
    return Call("PUT", path, repeatable=True, request={"json": json_row(item)})


def patch_item(domain: str, item_id: str, changes: Mapping[str, Any]) -> Call[Item]:
    """`PATCH /domains/{domain}/items/{item_id}`."""
    path = f"/domains/{_part(domain)}/items/{_item_part(item_id)}"
    return Call("PATCH", path, repeatable=True, request={"json": json_row(changes)})


def delete_item(domain: str, item_id: str) -> Call[None]:
    """`DELETE /domains/{domain}/items/{item_id}`."""
    return Call("DELETE", f"/domains/{_part(domain)}/items/{_part(item_id)}")


def upload(
    file: tuple[str, Any], *, activate: bool, create: bool, gate: Mapping[str, float] | None
) -> Call[AdapterCard]:
    """`POST /adapters`."""
    fields = {"activate": str(activate).lower(), "create": str(create).lower()}
    if gate is not None:
        fields["gate"] = json.dumps(dict(gate))
    return Call("POST", "/adapters", request={"files": {"file": file}, "data": fields})


def versions(domain: str | None) -> Call[Page[AdapterCard]]:
    """`GET /adapters`."""
    params = {} if domain is None else {"domain": domain}
    return Call("GET", "/adapters", repeatable=True, request={"params": params})


def version(domain: str, number: int) -> Call[AdapterCard]:
    """`GET /adapters/{domain}/versions/{version}`."""
    return Call("GET", f"/adapters/{_part(domain)}/versions/{_part(str(number))}", repeatable=True)


def file_path(domain: str, number: int) -> str:
    """Return the path of `GET /adapters/{domain}/versions/{version}/file`."""
    return f"/adapters/{_part(domain)}/versions/{_part(str(number))}/file"


def delete_version(domain: str, number: int) -> Call[None]:
    """`DELETE /adapters/{domain}/versions/{version}`."""
    return Call("DELETE", f"/adapters/{_part(domain)}/versions/{_part(str(number))}")


def activate(
    domain: str,
    version: VersionName,
    canary_percent: int = 0,
    gate: Mapping[str, float] | None = None,
) -> Call[Job]:
    """`POST /adapters/{domain}/versions/{version}/activate`."""
    wanted = {"canary_percent": canary_percent, "gate": None if gate is None else dict(gate)}
    return Call(
        "POST",
        f"/adapters/{_part(domain)}/versions/{_part(str(version))}/activate",
        request={"json": wanted},
    )


def promote(domain: str, number: int) -> Call[RolledBack]:
    """`POST /adapters/{domain}/versions/{version}/promote`."""
    return Call("POST", f"/adapters/{_part(domain)}/versions/{_part(str(number))}/promote")


def pin(domain: str, number: int, *, pinned: bool) -> Call[AdapterCard]:
    """`PATCH /adapters/{domain}/versions/{version}`."""
    place = f"/adapters/{_part(domain)}/versions/{_part(str(number))}"
    return Call("PATCH", place, repeatable=True, request={"json": {"pinned": pinned}})


def jobs(domain: str | None, limit: int) -> Call[Page[Job]]:
    """`GET /jobs`."""
    params: dict[str, str | int] = (
        {"limit": limit} if domain is None else {"limit": limit, "domain": domain}
    )
    return Call("GET", "/jobs", repeatable=True, request={"params": params})


def job(job_id: str) -> Call[Job]:
    """`GET /jobs/{job_id}`."""
    return Call("GET", f"/jobs/{_part(job_id)}", repeatable=True)


def cancel(job_id: str) -> Call[Job]:
    """`DELETE /jobs/{job_id}`."""
    return Call("DELETE", f"/jobs/{_part(job_id)}")


def info() -> Call[Info]:
    """`GET /info`."""
    return Call("GET", "/info", repeatable=True)


def readiness() -> Call[Readiness]:
    """`GET /readyz`."""
    return Call("GET", "/readyz")


def _item_part(item_id: str) -> str:
    return _part(checked_id(item_id, "item_id"))


def _part(name: str) -> str:
    if not isinstance(name, str):
        raise unsendable(f"{name!r} is no name: names and ids are text, send {str(name)!r}")
    try:
        quoted = quote(name, safe="")
    except UnicodeEncodeError as error:
        raise unencodable("a name", name, error) from error
    # Ids "." and ".." would be taken for folders.
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted
