"""`/adapters`: bundles in, versions listed, activated, deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool

from adapters_store.activations import Activation
from adapters_store.card import Card
from adapters_store.errors import StoreDamaged
from adapters_store.quoting import quote
from adapters_store.store import Store
from service.errors import InvalidRequest
from service.http.bodies import Receiving, read_body, refuse_long
from service.http.dependencies import Caller, from_app, stream
from service.http.problem_responses import problems
from service.http.uploads import UploadForm, receive
from service.recommend.identity import identify
from service.rollout.activation import Activator
from service.rollout.removal import Remover
from service.rollout.upload import Uploader
from service.settings import Settings
from service.state import Domains
from service.version import NONE
from service.wire.json_body import parse_body
from service.wire.requests import ActivateRequest, PinBody
from service.wire.responses import AdapterCard, Identity, Job, Page, RolledBack

router = APIRouter(prefix="/adapters", tags=["adapters"])


@dataclass(frozen=True, slots=True)
class AdapterComponents:
    """What the routes of versions use."""

    settings: Settings
    state: Domains
    store: Store
    uploader: Uploader
    activator: Activator
    remover: Remover
    receiving: Receiving


ComponentsDep = Annotated[AdapterComponents, from_app("adapters")]

_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The bundle."},
        "domain": {"type": "string", "description": "Must agree with the manifest, if given."},
        "activate": {"type": "boolean", "description": "Activate it as a job; the answer is 202."},
        "gate": {
            "type": "string",
            "description": "With `activate`: thresholds as JSON, as `POST …/activate` takes them.",
        },
        "create": {"type": "boolean", "description": "Create the domain if it does not exist."},
    },
}
_BODY = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
_WISHES = {"content": {"application/json": {"schema": ActivateRequest.model_json_schema()}}}
BYTES = "application/octet-stream"
_VERSION = "/{domain}/versions/{version}"
MAX_FORM_BYTES = 1024 * 1024
"""What a form may have beside its file."""
_NUMBER = re.compile("[1-9][0-9]{0,17}")


def _number(text: str) -> int:
    """Read a version of a path: no sign,
    blank or leading zero, so that each version has one path.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{quote(text)} is no version: expected a whole number from 1")
    return int(text)


VersionNumber = Annotated[int, Path(ge=1), BeforeValidator(_number)]


@router.post(
    "",
    summary="Upload a bundle",
    status_code=201,
    response_model=AdapterCard,
    openapi_extra={"requestBody": _BODY},
    responses={
        200: {"model": AdapterCard, "description": "The same bytes are a version already."},
        202: {"model": AdapterCard, "description": "Accepted, and being activated as a job."},
        **problems(400, 404, 413, 415, 422, 429, 507),
    },
)
async def post_adapter(
    request: Request,
    components: ComponentsDep,
    key: Caller,
    domain: Annotated[
        str | None, Query(description="Must agree with the manifest, if given.")
    ] = None,
) -> Response:
    """Stream a bundle in, check it against the domain's backbone,
    and keep it as the domain's next version.
    """
    limit = components.settings.max_bundle_bytes
    refuse_long(request, limit + MAX_FORM_BYTES)
    with components.receiving.one_of(f"bundles by {key.name}"):
        async with receive(components.store, limit) as upload:
            form = UploadForm(upload)
            await form.read(request.headers.get("content-type", ""), stream(request))
            options = form.read_options(domain)
            added = await run_in_threadpool(components.uploader.add, upload, options, key.check)
    job = await run_in_threadpool(components.uploader.activate, added, options)
    card = added.card
    if job is not None:
        content = card.to_json() | {"job": job.to_json()}
        return _json(content, 202, {"Location": f"/jobs/{job.id}"})
    status = 201 if added.created else 200
    place = f"/adapters/{card.domain}/versions/{card.version}"
    return _json(card.to_json(), status, {"Location": place})


@router.get("", summary="List versions", response_model=Page[AdapterCard], responses=problems(404))
def list_versions(
    components: ComponentsDep, key: Caller, domain: Annotated[str | None, Query()] = None
) -> dict[str, Any]:
    """Return the cards of all versions, or of a domain's, and which are live."""
    names = (
        [domain]
        if domain is not None
        else [one.name for one in components.state.domains() if key.covers(one.name)]
    )
    cards: list[dict[str, Any]] = []
    for name in names:
        components.state.get_domain(name)
        shown = _roles(components, name)
        cards += [_shown(card, *shown) for card in components.store.versions(name)]
    return {"items": cards, "next_cursor": None}


@router.get(_VERSION, summary="Show a version", response_model=AdapterCard, responses=problems(404))
def get_version(domain: str, version: VersionNumber, components: ComponentsDep) -> dict[str, Any]:
    """Return a version's card: kind, parameters, metrics, curves, digest, bytes."""
    components.state.get_domain(domain)
    return _shown(components.store.card(domain, version), *_roles(components, domain))


@router.patch(
    _VERSION,
    summary="Pin a version",
    response_model=AdapterCard,
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": PinBody.model_json_schema()}}}
    },
    responses=problems(400, 404, 409, 413, 422, 507),
)
async def patch_version(
    domain: str, version: VersionNumber, request: Request, components: ComponentsDep
) -> dict[str, Any]:
    """Keep a version warm, whatever is asked for and activated, and undeleted; or no longer."""
    await run_in_threadpool(components.state.get_domain, domain)
    body = await read_body(request, components.settings.max_body_bytes)
    wanted = parse_body(PinBody, body, '{"pinned": true}')
    await run_in_threadpool(
        partial(components.activator.pin, domain, version, pinned=wanted.pinned)
    )
    return await run_in_threadpool(get_version, domain, version, components)


@router.get(
    _VERSION + "/file",
    summary="Download a bundle",
    response_class=FileResponse,
    responses={200: {"content": {BYTES: {}}, "description": "The bundle."}, **problems(404)},
)
def get_file(domain: str, version: VersionNumber, components: ComponentsDep) -> FileResponse:
    """Return the bundle as it was uploaded."""
    components.state.get_domain(domain)
    path = components.store.bundle_path(domain, version)
    return FileResponse(path, media_type=BYTES, filename=f"{domain}-{version}.safetensors")


@router.delete(
    _VERSION,
    summary="Delete a version",
    status_code=204,
    response_class=Response,
    responses=problems(404, 409),
)
def delete_version(domain: str, version: VersionNumber, components: ComponentsDep) -> None:
    """Delete a version that is neither live nor pinned nor what a rollback returns to."""
    components.state.get_domain(domain)
    components.remover.delete_version(domain, version)


@router.post(
    _VERSION + "/activate",
    summary="Activate a version",
    status_code=202,
    response_model=Job,
    openapi_extra={"requestBody": _WISHES},
    responses={
        200: {"model": Job, "description": "It was a flip, and is done."},
        **problems(400, 404, 409, 413, 422, 429),
    },
)
async def activate_version(
    domain: str, version: str, request: Request, components: ComponentsDep
) -> Response:
    """Make a version (or `none`) live, as a job: load, embed, index, verify, gate, flip. The body
    may be empty.

    A version whose vectors lie ready is a flip: it is live when the answer comes, and the job has
    ended.
    """
    if version != NONE and not _NUMBER.fullmatch(version):
        msg = f"{quote(version)} is no version: expected a whole number from 1, or none"
        raise InvalidRequest(msg, [{"loc": ["path", "version"], "msg": msg}])
    await run_in_threadpool(components.state.get_domain, domain)
    body = await read_body(request, components.settings.max_body_bytes)
    wanted = parse_body(
        ActivateRequest, body or b"{}", '{"canary_percent": 10, "gate": {"max_drop": 0.05}}'
    )
    number = None if version == NONE else int(version)
    job = await run_in_threadpool(components.activator.submit, domain, number, wanted)
    return _json(job.to_json(), 200 if job.ended else 202, {"Location": f"/jobs/{job.id}"})


@router.post(
    _VERSION + "/promote",
    summary="Make a canary live for everybody",
    response_model=RolledBack,
    responses=problems(404, 409, 503),
)
def promote_version(domain: str, version: VersionNumber, components: ComponentsDep) -> Identity:
    """Answer everybody from the version that was a canary, at once."""
    return identify(components.activator.promote(domain, version).live)


def _roles(components: AdapterComponents, domain: str) -> tuple[Activation | None, Sequence[int]]:
    """Return the current activation, None where the log is lost, and the pinned versions."""
    try:
        return components.store.current(domain), components.store.pinned(domain)
    except StoreDamaged:
        return None, components.store.pinned(domain)


def _shown(card: Card, current: Activation | None, pinned: Sequence[int]) -> dict[str, Any]:
    shown = card.to_json() | {"pinned": card.version in pinned}
    if current is None:
        return shown
    is_canary = current.percent > 0 and card.version == current.canary
    return shown | {
        "live": card.version == current.version,
        "canary_percent": current.percent if is_canary else 0,
        "canary_since": current.at if is_canary else None,
    }


def _json(value: object, status: int, headers: dict[str, str]) -> Response:
    return Response(json.dumps(value).encode(), status, headers, "application/json")
