"""`/domains`: what is served, and going back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from adapters_store.domains import check_domain_name
from adapters_store.errors import StoreDamaged
from adapters_store.store import Store
from service.http.bodies import read_body
from service.http.dependencies import Caller, from_app
from service.http.problem_responses import problems
from service.live.table import Deployment, LiveTable
from service.recommend.identity import identify
from service.rollout.activation import Activator
from service.rollout.domain_creator import DomainCreator
from service.rollout.removal import Remover
from service.state import Catalogs, DomainRecord
from service.version import version_name
from service.wire.json_body import parse_body
from service.wire.requests import DomainBody
from service.wire.responses import Domain, Page, RolledBack

_BODY = {"content": {"application/json": {"schema": DomainBody.model_json_schema()}}}

router = APIRouter(prefix="/domains", tags=["domains"])


@dataclass(frozen=True, slots=True)
class DomainComponents:
    """What the routes of domains use."""

    state: Catalogs
    store: Store
    live: LiveTable
    creator: DomainCreator
    activator: Activator
    remover: Remover
    max_body_bytes: int


ComponentsDep = Annotated[DomainComponents, from_app("domains")]


@router.get("", summary="List domains", response_model=Page[Domain])
def list_domains(components: ComponentsDep, key: Caller) -> dict[str, Any]:
    """Return every domain with what it answers from."""
    return {
        "items": [
            _card(components, record)
            for record in components.state.domains()
            if key.covers(record.name)
        ],
        "next_cursor": None,
    }


@router.get("/{domain}", summary="Show a domain", response_model=Domain, responses=problems(404))
def get_domain(domain: str, components: ComponentsDep) -> dict[str, Any]:
    """Return a domain: backbone, items, live version, index generation, memory by part, status."""
    return _card(components, components.state.get_domain(domain))


@router.put(
    "/{domain}",
    summary="Create or change a domain",
    response_model=Domain,
    openapi_extra={"requestBody": _BODY},
    responses={
        201: {"model": Domain, "description": "It was created."},
        **problems(400, 409, 413, 422, 507),
    },
)
async def put_domain(
    domain: str, request: Request, components: ComponentsDep, response: Response
) -> dict[str, Any]:
    """Create a domain, which then answers under `none`; doing it again changes its title.

    The body may be empty.
    """
    check_domain_name(domain)
    body = parse_body(
        DomainBody,
        await read_body(request, components.max_body_bytes) or b"{}",
        '{"title": "Films"}',
    )
    created = await run_in_threadpool(components.creator.put, domain, body)
    response.status_code = 201 if created else 200
    return await run_in_threadpool(get_domain, domain, components)


@router.delete(
    "/{domain}",
    summary="Delete a domain",
    status_code=204,
    response_class=Response,
    responses=problems(404),
)
def delete_domain(domain: str, components: ComponentsDep) -> None:
    """Delete a domain, its items, versions and vectors."""
    components.remover.remove_domain(domain)


@router.post(
    "/{domain}/rollback",
    summary="Go back to the version before",
    response_model=RolledBack,
    responses=problems(404, 409, 503),
)
async def rollback(domain: str, components: ComponentsDep) -> RolledBack:
    """End a canary or, without one, make the value that was live before live again; at once."""
    done = await run_in_threadpool(components.activator.rollback, domain)
    return {**identify(done.live), "skipped_versions": done.skipped}


def _card(components: DomainComponents, record: DomainRecord) -> dict[str, Any]:
    deployment = components.live.find(record.name)
    card: dict[str, Any] = {
        "domain": record.name,
        "title": record.title,
        "backbone": record.backbone,
        "created_at": record.created_at,
        "items": components.state.count_items(record.name),
        "versions": [card.version for card in components.store.versions(record.name)],
    }
    if deployment is not None:
        return card | _describe_deployment(deployment) | _canary_since(components, deployment)
    return card | (
        _describe_evicted(components, record.name)
        if components.live.is_evicted(record.name)
        else _describe_waiting(components, record.name)
    )


def _describe_deployment(deployment: Deployment) -> dict[str, Any]:
    live = deployment.live
    previous = deployment.previous
    return {
        "status": "ready",
        "in_memory": True,
        "live_version": version_name(live.version),
        "previous_version": None if previous is None else version_name(previous.version),
        "canary_version": None
        if deployment.canary is None
        else version_name(deployment.canary.version),
        "canary_percent": deployment.percent,
        "pinned_versions": [version_name(value.version) for value in deployment.pinned],
        "index_generation": live.index_generation,
        "searchable_items": len(live.items),
        "index": live.items.index.describe(),
        "memory_bytes": live.memory(),
    }


def _canary_since(components: DomainComponents, deployment: Deployment) -> dict[str, Any]:
    if deployment.canary is None:
        return {"canary_since": None}
    with suppress(StoreDamaged):
        return {"canary_since": components.store.current(deployment.live.domain).at}
    return {}


def _describe_evicted(components: DomainComponents, name: str) -> dict[str, Any]:
    try:
        activation = components.store.current(name)
    except StoreDamaged as error:
        return {"status": "broken", "reason": str(error)}
    return {
        "status": "ready",
        "in_memory": False,
        "live_version": version_name(activation.version),
        "previous_version": version_name(activation.previous)
        if activation.previous != activation.version
        else None,
        "canary_version": version_name(activation.canary) if activation.percent else None,
        "canary_percent": activation.percent,
        "canary_since": activation.at if activation.percent else None,
        "pinned_versions": components.store.pinned(name),
    }


def _describe_waiting(components: DomainComponents, name: str) -> dict[str, Any]:
    if name in components.live.broken:
        return {"status": "broken", "reason": components.live.broken[name]}
    return {"status": "loading", "reason": components.live.loading.get(name, "being made ready")}
