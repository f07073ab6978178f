"""`/domains/{domain}/items`: the catalog."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service import answers
from service.answers import ImportReport, Job, Page
from service.errors import InvalidRequest, ItemNotFound, UnsupportedMedia
from service.intake import as_attributes
from service.parts import Given, problems, stream
from service.state import Item

router = APIRouter(prefix="/domains/{domain}/items", tags=["items"])

NDJSON = "application/x-ndjson"
PAGE = 100
_CURSOR = re.compile(r"[0-9]{1,18}")
_ITEMS = {"type": "array", "items": {"type": "object"}}
_BODY = {"required": True, "content": {"application/json": {"schema": _ITEMS}, NDJSON: {"schema": {"type": "string"}}}}


@router.post(
    "",
    summary="Add or change items in bulk",
    response_model=ImportReport,
    openapi_extra={"requestBody": _BODY},
    responses={
        202: {"model": Job, "description": "The import goes on as a job."},
        **problems(400, 404, 413, 415, 503, 507),
    },
)
async def post_items(
    domain: str,
    request: Request,
    parts: Given,
    wait: Annotated[bool, Query(description="False: answer with a job as soon as the body is stored.")] = True,
) -> Response:
    """Store a JSON array, or NDJSON with one item a line; 200 once all of it is searchable, 202 with a job if large."""
    await run_in_threadpool(parts.live.get, domain)  # before the body is taken: what cannot be searched is not stored
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", NDJSON):
        raise UnsupportedMedia(f"content type {kind or 'missing'!r}: expected application/json or {NDJSON}")
    spooled = await parts.imports.spool(stream(request), parts.settings.max_import_bytes, ndjson=kind == NDJSON)
    if not wait or spooled.stat().st_size > parts.settings.import_job_bytes:
        job = await run_in_threadpool(parts.imports.submit, domain, spooled)
        return _json(job.to_json(), 202, {"Location": f"/jobs/{job.id}"})
    try:
        report = await run_in_threadpool(parts.imports.run, domain, spooled)
    finally:
        spooled.unlink(missing_ok=True)
    return _json(report.to_json(), 200)


@router.get("", summary="List items", response_model=Page[answers.Item], responses=problems(404, 422))
def list_items(
    domain: str,
    parts: Given,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE,
) -> dict[str, Any]:
    """Return a page of the catalog, in the order in which items came."""
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise InvalidRequest(
            "cursor: expected the next_cursor of a page", [{"loc": ["query", "cursor"], "msg": cursor}]
        )
    found = parts.state.list_items(domain, int(cursor) if cursor is not None else -1, limit)
    following = str(found[-1][0]) if len(found) == limit else None
    return {"items": [_shown(item) for _, item in found], "next_cursor": following}


@router.get("/{item_id:path}", summary="Show an item", response_model=answers.Item, responses=problems(404))
def get_item(domain: str, item_id: str, parts: Given) -> dict[str, Any]:
    """Return an item as it is stored."""
    parts.state.get_domain(domain)
    found = parts.state.items_by_id(domain, [item_id])
    if item_id not in found:
        raise ItemNotFound(f"{domain} has no item {item_id!r}")
    return _shown(found[item_id])


def _shown(item: Item) -> dict[str, Any]:
    shown = {"item_id": item.item_id, "text": as_attributes(item.text), "image": item.image}
    return shown | {"popularity": item.popularity, "metadata": item.metadata}


def _json(value: object, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(value, ensure_ascii=False).encode(), status, headers, "application/json")
