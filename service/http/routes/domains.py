"""`/domains`: what is served, and going back."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from adapters_store.domains import check_domain_name
from adapters_store.errors import StoreDamaged
from service.errors import BackboneNotFound, Conflict
from service.http.parts import Caller, Given, Parts, parse_body, problems, read_body
from service.live.table import Deployment
from service.state import DomainRecord
from service.version import version_name
from service.wire.requests import DomainBody
from service.wire.responses import Domain, Page, RolledBack

_BODY = {"content": {"application/json": {"schema": DomainBody.model_json_schema()}}}

_log = logging.getLogger("swaprec")

router = APIRouter(prefix="/domains", tags=["domains"])


@router.get("", summary="List domains", response_model=Page[Domain])
def list_domains(parts: Given, key: Caller) -> dict[str, Any]:
    """Return every domain with what it answers from."""
    return {
        "items": [_card(parts, record) for record in parts.state.domains() if key.covers(record.name)],
        "next_cursor": None,
    }


@router.get("/{domain}", summary="Show a domain", response_model=Domain, responses=problems(404))
def get_domain(domain: str, parts: Given) -> dict[str, Any]:
    """Return a domain: backbone, items, live version, index generation, memory by part, status."""
    return _card(parts, parts.state.get_domain(domain))


@router.put(
    "/{domain}",
    summary="Create or change a domain",
    response_model=Domain,
    openapi_extra={"requestBody": _BODY},
    responses={201: {"model": Domain, "description": "It was created."}, **problems(400, 409, 413, 422, 507)},
)
async def put_domain(domain: str, request: Request, parts: Given, response: Response) -> dict[str, Any]:
    """Create a domain, which then answers under `none`; doing it again changes its title. The body may be empty."""
    check_domain_name(domain)
    body = parse_body(
        DomainBody, await read_body(request, parts.settings.max_body_bytes) or b"{}", '{"title": "Films"}'
    )
    created = await run_in_threadpool(create_domain, parts, domain, body)
    response.status_code = 201 if created else 200
    return await run_in_threadpool(get_domain, domain, parts)


@router.delete(
    "/{domain}", summary="Delete a domain", status_code=204, response_class=Response, responses=problems(404)
)
def delete_domain(domain: str, parts: Given) -> None:
    """Delete a domain, its items, versions and vectors."""
    parts.activator.remove(domain)


@router.post(
    "/{domain}/rollback",
    summary="Go back to the version before",
    response_model=RolledBack,
    responses=problems(404, 409, 503),
)
async def rollback(domain: str, parts: Given) -> dict[str, Any]:
    """End a canary or, without one, make the value that was live before live again; at once."""
    done = await run_in_threadpool(parts.activator.rollback, domain)
    live = done.live
    return {
        "domain": domain,
        "skipped_versions": done.skipped,
        "version": version_name(live.version),
        "digest": live.digest,
        "index_generation": live.index_generation,
    }


def create_domain(parts: Parts, name: str, body: DomainBody) -> bool:
    """Create a domain, or change its title; return whether it was created.

    Raises:
        InvalidName; BackboneNotFound: none or several fit; Conflict: it runs another backbone already.
    """
    check_domain_name(name)
    known = next((record for record in parts.state.domains() if record.name == name), None)
    if known is None or body.backbone is not None:
        fingerprint = find_backbone(parts, body.backbone)
        if known is not None and known.backbone != fingerprint:
            raise Conflict(
                f"{name} runs backbone {known.backbone[:12]}; its versions fit no other: make another domain"
            )
    else:
        fingerprint = known.backbone
    record = DomainRecord(name, fingerprint, body.title or (known.title if known else ""))
    if known is None:  # of an earlier domain of the name nothing must be left
        parts.store.finish_removal(name)
    created = parts.state.put_domain(record)
    if created:
        _log.info("%s: the domain is created, on backbone %s", name, fingerprint[:12])
    parts.activator.publish_new_domain(record)
    return created


def find_backbone(parts: Parts, wanted: str | None) -> str:
    """Return the fingerprint that a name, a beginning, or nothing stands for; before giving up, look for new folders.

    Raises:
        BackboneNotFound: none or several do.
    """
    fitting = _fitting(parts, wanted)
    if not fitting and parts.engines.look_again():
        fitting = _fitting(parts, wanted)
    if len(fitting) == 1:
        return fitting[0]
    loaded = parts.engines.names()
    there = ", ".join(f"{name} ({fingerprint[:12]})" for fingerprint, name in loaded.items()) or "none"
    what = "no backbone named" if wanted is None else f"backbone {wanted!r} fits {len(fitting)} of them"
    hint = "" if fitting else "; put its folder, as `swaprec train` makes it, into backbones/ of the data folder"
    raise BackboneNotFound(f"{what}; loaded: {there}{hint}")


def _fitting(parts: Parts, wanted: str | None) -> list[str]:
    """Return the fingerprints that fit: a unique name fits one backbone, a folder's name all that share it."""
    names = parts.engines.names()
    exact = [fingerprint for fingerprint, name in names.items() if name == wanted]
    return exact or [
        fingerprint
        for fingerprint, engine in parts.engines.items()
        if wanted is None or engine.backbone.name == wanted or fingerprint.startswith(wanted)
    ]


def _card(parts: Parts, record: DomainRecord) -> dict[str, Any]:
    deployment = parts.live.find(record.name)
    card: dict[str, Any] = {
        "domain": record.name,
        "title": record.title,
        "backbone": record.backbone,
        "created_at": record.created_at,
        "items": parts.state.count_items(record.name),
        "versions": [card.version for card in parts.store.versions(record.name)],
    }
    if deployment is not None:
        return card | _describe_deployment(deployment) | _canary_since(parts, deployment)
    return card | (
        _describe_evicted(parts, record.name)
        if parts.live.is_evicted(record.name)
        else _describe_waiting(parts, record.name)
    )


def _describe_deployment(deployment: Deployment) -> dict[str, Any]:
    live, previous = deployment.live, deployment.previous
    return {
        "status": "ready",
        "in_memory": True,
        "live_version": version_name(live.version),
        "previous_version": None if previous is None else version_name(previous.version),
        "canary_version": None if deployment.canary is None else version_name(deployment.canary.version),
        "canary_percent": deployment.percent,
        "pinned_versions": [version_name(value.version) for value in deployment.pinned],
        "index_generation": live.index_generation,
        "searchable_items": len(live.items),
        "index": live.items.index.describe(),
        "memory_bytes": live.memory(),
    }


def _canary_since(parts: Parts, deployment: Deployment) -> dict[str, Any]:
    if deployment.canary is None:
        return {"canary_since": None}
    with suppress(StoreDamaged):
        return {"canary_since": parts.store.current(deployment.live.domain).at}
    return {}


def _describe_evicted(parts: Parts, name: str) -> dict[str, Any]:
    try:
        activation = parts.store.current(name)
    except StoreDamaged as error:
        return {"status": "broken", "reason": str(error)}
    return {
        "status": "ready",
        "in_memory": False,
        "live_version": version_name(activation.version),
        "previous_version": version_name(activation.previous) if activation.previous != activation.version else None,
        "canary_version": version_name(activation.canary) if activation.percent else None,
        "canary_percent": activation.percent,
        "canary_since": activation.at if activation.percent else None,
        "pinned_versions": parts.store.pinned(name),
    }


def _describe_waiting(parts: Parts, name: str) -> dict[str, Any]:
    if name in parts.live.broken:
        return {"status": "broken", "reason": parts.live.broken[name]}
    return {"status": "loading", "reason": parts.live.loading.get(name, "being made ready")}
