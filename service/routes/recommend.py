"""`POST /recommend`."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.answers import Comparison, Recommendation
from service.compare import compare
from service.errors import DomainLoading, QueueFull
from service.parts import Given, parse_body, problems, read_body
from service.recommend import recommend
from service.schemas import CompareRequest, RecommendRequest

router = APIRouter(tags=["recommend"])

_BODY = {"required": True, "content": {"application/json": {"schema": RecommendRequest.model_json_schema()}}}


@router.post(
    "/recommend",
    summary="Recommend items of a domain to a history",
    response_model=Recommendation,
    openapi_extra={"requestBody": _BODY},
    responses=problems(400, 404, 409, 413, 422, 429, 503),
)
async def post_recommend(
    request: Request, parts: Given, domain: Annotated[str, Query(description="Which domain.")]
) -> Response:
    """Answer from the domain's live value; the answer names the version and index generation that produced it."""
    body = await read_body(request, parts.settings.max_body_bytes)
    wanted = parse_body(RecommendRequest, body, '{"history": ["n101"]}')
    try:
        # In a thread only where there is nothing in memory: why that is so may have to be asked of state.
        standing = parts.live.find(domain)
        if standing is None:
            standing = await run_in_threadpool(parts.live.get, domain)
        live = standing.live if wanted.version is None else parts.live.serving(domain, wanted.version)
        answer = await recommend(live, wanted, parts.reader)
    except (QueueFull, DomainLoading) as error:
        parts.telemetry.rejected.labels(error.code).inc()
        raise
    request.state.domain = domain
    if answer["fallback"]["used"]:
        parts.telemetry.fallbacks.labels(answer["fallback"]["reason"]).inc()
    if answer["unknown_items"]:
        parts.telemetry.unknown_items.inc(len(answer["unknown_items"]))
    return Response(json.dumps(answer, ensure_ascii=False, allow_nan=False).encode(), media_type="application/json")


@router.post(
    "/compare",
    summary="Compare what several versions recommend",
    response_model=Comparison,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": CompareRequest.model_json_schema()}},
        }
    },
    responses=problems(400, 404, 409, 413, 422, 429, 503),
)
async def post_compare(
    request: Request, parts: Given, domain: Annotated[str, Query(description="Which domain.")]
) -> Response:
    """Answer one history by every arm, with how much they agree and what moved."""
    body = await read_body(request, parts.settings.max_body_bytes)
    wanted = parse_body(CompareRequest, body, '{"history": ["n101"], "arms": [{"version": 3}]}')
    answer = await compare(parts.live, domain, wanted, parts.reader)
    return Response(json.dumps(answer, ensure_ascii=False, allow_nan=False).encode(), media_type="application/json")
