"""`/domains/{domain}/items`: the catalog."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, RootModel
from starlette.concurrency import run_in_threadpool

from adapters_store.names import check_id
from service import state
from service.content.item_reader import as_attributes
from service.errors import InvalidRequest, ItemNotFound, UnsupportedMedia
from service.http.bodies import Receiving, refuse_long
from service.http.dependencies import from_app, stream
from service.http.item_forms import FORM, read_item
from service.http.problem_responses import problems
from service.ingest.editor import CatalogEditor
from service.ingest.imports import Imports
from service.ingest.writer import CatalogWriter
from service.jobs import Jobs
from service.settings import Settings
from service.state import Items, StoredItem
from service.wire import responses
from service.wire.json_body import parse_value
from service.wire.requests import MAX_IMAGE_B64, ItemBody, ItemPatch
from service.wire.responses import ImportReport, Job, Page

router = APIRouter(prefix="/domains/{domain}/items", tags=["items"])


@dataclass(frozen=True, slots=True)
class ItemComponents:
    """What the routes of items use."""

    settings: Settings
    state: Items
    editor: CatalogEditor
    writer: CatalogWriter
    imports: Imports
    jobs: Jobs
    receiving: Receiving


ComponentsDep = Annotated[ItemComponents, from_app("items")]

NDJSON = "application/x-ndjson"
ITEM_EXAMPLE = '{"title": "Heat (1995)"}'
PATCH_EXAMPLE = '{"available": false}'
PAGE_ITEMS = 100
_Object = RootModel[dict[str, Any]]
_CURSOR = re.compile(r"[0-9]{1,18}")
MAX_ITEM_BYTES = MAX_IMAGE_B64 + 1024 * 1024
_FORM = {
    "type": "object",
    "description": "The fields by their names, `image` as a file.",
    "properties": {"title": {"type": "string"}, "image": {"type": "string", "format": "binary"}},
    "additionalProperties": True,
}


def _item_body(model: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": model.model_json_schema()}, FORM: {"schema": _FORM}}
    return {"required": True, "content": content}


_ONE = _item_body(ItemBody)
_PATCH = _item_body(ItemPatch)
_QUEUED: dict[int | str, dict[str, Any]] = {
    202: {"model": Job, "description": "It is kept, and embedded and stored by a job."}
}
Wait = Annotated[
    bool, Query(description="False: answer with a job as soon as the body is checked and kept.")
]
ItemIdPath = Annotated[
    str, Path(description="1 to 256 bytes, no control characters."), AfterValidator(check_id)
]
_ITEMS = {"type": "array", "items": {"type": "object"}}
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": _ITEMS}, NDJSON: {"schema": {"type": "string"}}},
}


@router.post(
    "",
    summary="Add or change items in bulk",
    response_model=ImportReport,
    openapi_extra={"requestBody": _BODY},
    responses={
        202: {"model": Job, "description": "The import goes on as a job."},
        **problems(400, 404, 413, 415, 429, 503, 507),
    },
)
async def post_items(
    domain: str,
    request: Request,
    components: ComponentsDep,
    wait: Wait = True,
) -> Response:
    """Store a JSON array, or NDJSON with one item a line;
    200 once all of it is searchable, 202 with a job if large.
    """
    # Before the body is taken: what cannot be searched is not stored.
    deployment = await components.editor.begin(domain)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", NDJSON):
        raise UnsupportedMedia(
            f"content type {kind or 'missing'!r}: expected application/json or {NDJSON}"
        )
    limit = components.settings.max_import_bytes
    refuse_long(request, limit)
    if not wait or _is_large(request, components.settings.import_job_bytes):
        await run_in_threadpool(components.jobs.check_room, domain)
    with components.receiving.one_of(f"items of {domain}"):
        body = stream(request)
        spooled = await components.imports.spool.receive(body, limit, ndjson=kind == NDJSON)
    if not wait or spooled.stat().st_size > components.settings.import_job_bytes:
        return _queued(
            await run_in_threadpool(
                components.imports.submit, domain, spooled, deployment.live.incarnation
            )
        )
    try:
        report = await components.editor.import_now(domain, spooled, deployment)
    finally:
        spooled.unlink(missing_ok=True)
    return _json(report.to_json(), 200)


@router.get(
    "", summary="List items", response_model=Page[responses.Item], responses=problems(404, 422)
)
def list_items(
    domain: str,
    components: ComponentsDep,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE_ITEMS,
) -> Page[responses.Item]:
    """Return a page of the catalog, in the order in which items came."""
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise InvalidRequest(
            "cursor: expected the next_cursor of a page",
            [{"loc": ["query", "cursor"], "msg": cursor}],
        )
    found = components.state.list_items(domain, int(cursor) if cursor is not None else -1, limit)
    following = str(found[-1][0]) if len(found) == limit else None
    return {"items": [_shown(item) for _, item in found], "next_cursor": following}


@router.get(
    "/{item_id:path}",
    summary="Show an item",
    response_model=responses.Item,
    responses=problems(404),
)
def get_item(domain: str, item_id: ItemIdPath, components: ComponentsDep) -> responses.Item:
    """Return an item as it is stored."""
    return _shown(components.writer.get(domain, item_id))


@router.put(
    "/{item_id:path}",
    summary="Add or replace an item",
    response_model=responses.Item,
    openapi_extra={"requestBody": _ONE},
    responses={
        201: {"model": responses.Item, "description": "It was added."},
        **_QUEUED,
        **problems(400, 404, 413, 422, 429, 503, 507),
    },
)
async def put_item(
    domain: str, item_id: ItemIdPath, request: Request, components: ComponentsDep, wait: Wait = True
) -> Response:
    """Store an item and make it searchable; unchanged content is not embedded again."""
    incarnation = (await components.editor.begin(domain)).live.incarnation
    given = await read_item(request, MAX_ITEM_BYTES, ITEM_EXAMPLE)
    body = await run_in_threadpool(_named, given, item_id)
    if not wait:
        return _queued(await components.editor.queue_item(domain, body, incarnation))
    item, added = await components.editor.put_item(domain, body, incarnation)
    return _json(
        _shown(item),
        201 if added else 200,
        {"Location": f"/domains/{domain}/items/{_quoted(item_id)}"},
    )


@router.patch(
    "/{item_id:path}",
    summary="Change an item",
    response_model=responses.Item,
    openapi_extra={"requestBody": _PATCH},
    responses={**_QUEUED, **problems(400, 404, 409, 413, 422, 429, 503, 507)},
)
async def patch_item(
    domain: str, item_id: ItemIdPath, request: Request, components: ComponentsDep, wait: Wait = True
) -> Response:
    """Change the fields that are named; what others change at the same time is not lost."""
    incarnation = (await components.editor.begin(domain)).live.incarnation
    given = await read_item(request, MAX_ITEM_BYTES, PATCH_EXAMPLE)
    patch = await run_in_threadpool(parse_value, ItemPatch, given)
    if not wait:
        return _queued(await components.editor.queue_patch(domain, item_id, patch, incarnation))
    item = await components.editor.patch_item(domain, item_id, patch, incarnation)
    return _json(_shown(item), 200)


@router.delete(
    "/{item_id:path}",
    summary="Delete an item",
    status_code=204,
    response_class=Response,
    responses=problems(404, 503),
)
def delete_item(domain: str, item_id: str, components: ComponentsDep) -> None:
    """Delete an item: it is gone from the next answer."""
    if not components.writer.delete(domain, [item_id]).deleted:
        # Only now: what was stored before there was the check can still be deleted.
        check_id(item_id)
        raise ItemNotFound(f"{domain} has no item {item_id!r}")


def _quoted(item_id: str) -> str:
    part = quote(item_id, safe="")
    # Ids "." and ".." would be taken for folders.
    return part.replace(".", "%2E") if part in (".", "..") else part


def _is_large(request: Request, inline_bytes: int) -> bool:
    """Whether a body becomes a job, or may: of one that comes in chunks nobody knows."""
    length = request.headers.get("content-length", "")
    return not length.isdecimal() or int(length) > inline_bytes


def _queued(job: state.JobRecord) -> Response:
    return _json(job.to_json(), 202, {"Location": f"/jobs/{job.id}"})


def _named(given: object, item_id: str) -> ItemBody:
    """Read an item whose id is in the address, and may be in the body too."""
    fields = parse_value(_Object, given).root
    if fields.setdefault("item_id", item_id) != item_id:
        msg = f"the address names {item_id!r}"
        raise InvalidRequest(
            f"item_id: {msg}, the body another item", [{"loc": ["item_id"], "msg": msg}]
        )
    return parse_value(ItemBody, fields)


def _shown(item: StoredItem) -> responses.Item:
    return {
        "item_id": item.item_id,
        "text": as_attributes(item.text),
        "image": item.image,
        "popularity": item.popularity,
        "available": item.available,
        "metadata": item.metadata,
    }


def _json(value: object, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(value, ensure_ascii=False).encode(), status, headers, "application/json"
    )
