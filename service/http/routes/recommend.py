"""`POST /recommend`."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from service.errors import DomainLoading, QueueFull
from service.http.components import Components, ComponentsDep, problems
from service.http.json_body import parse_body, read_body
from service.live.table import Deployment, LiveDomain
from service.recommend.compare import compare
from service.recommend.recommend import recommend
from service.recommend.similar import embed, similar
from service.wire.requests import CompareRequest, EmbedRequest, RecommendRequest, SimilarRequest
from service.wire.responses import Comparison, Embedded, Recommendation, Similar

router = APIRouter(tags=["recommend"])


def _expects(body: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that the route reads by itself."""
    schema = {"application/json": {"schema": body.model_json_schema()}}
    return {"requestBody": {"required": True, "content": schema}}


@router.post(
    "/recommend",
    summary="Recommend items of a domain to a history",
    response_model=Recommendation,
    openapi_extra=_expects(RecommendRequest),
    responses=problems(400, 404, 409, 413, 422, 429, 503),
)
async def post_recommend(
    request: Request,
    components: ComponentsDep,
    domain: Annotated[str, Query(description="Which domain.")],
) -> Response:
    """Answer from the domain's live value;
    the answer names the version and index generation that produced it.
    """
    try:
        deployment = await components.residency.get(domain)
        body = await read_body(request, components.settings.max_body_bytes)
        wanted = parse_body(RecommendRequest, body, '{"history": ["n101"]}')
        answer = await _recommended(components, deployment, wanted)
    except (QueueFull, DomainLoading) as error:
        components.telemetry.rejected.labels(error.code).inc()
        raise
    request.state.domain = domain
    if answer["fallback"]["used"]:
        components.telemetry.fallbacks.labels(answer["fallback"]["reason"]).inc()
    if answer["unknown_items"]:
        components.telemetry.unknown_items.inc(len(answer["unknown_items"]))
    return _answer(answer)


@router.post(
    "/compare",
    summary="Compare what several versions recommend",
    response_model=Comparison,
    openapi_extra=_expects(CompareRequest),
    responses=problems(400, 404, 409, 413, 422, 429, 503),
)
async def post_compare(
    request: Request,
    components: ComponentsDep,
    domain: Annotated[str, Query(description="Which domain.")],
) -> Response:
    """Answer one history by every arm, with how much they agree and what moved."""
    deployment = await components.residency.get(domain)
    body = await read_body(request, components.settings.max_body_bytes)
    wanted = parse_body(CompareRequest, body, '{"history": ["n101"], "arms": [{"version": 3}]}')
    answer = await compare(deployment, wanted, components.reader)
    return _answer(answer)


@router.post(
    "/similar",
    summary="Find items like an item, a text or a picture",
    response_model=Similar,
    openapi_extra=_expects(SimilarRequest),
    responses=problems(400, 404, 409, 413, 422, 429, 503),
)
async def post_similar(
    request: Request,
    components: ComponentsDep,
    domain: Annotated[str, Query(description="Which domain.")],
) -> Response:
    """Answer with the nearest items of the live value;
    a text or picture is encoded with its adapter.
    """
    deployment = await components.residency.get(domain)
    wanted = parse_body(
        SimilarRequest,
        await read_body(request, components.settings.max_body_bytes),
        '{"item_id": "n101"}',
    )
    return _answer(await similar(_live(deployment, wanted.version), wanted, components.reader))


@router.post(
    "/embed",
    summary="Return vectors of items, texts and pictures",
    response_model=Embedded,
    openapi_extra=_expects(EmbedRequest),
    responses=problems(400, 404, 409, 413, 422, 429, 503),
)
async def post_embed(
    request: Request,
    components: ComponentsDep,
    domain: Annotated[str, Query(description="Which domain.")],
) -> Response:
    """Encode with the adapter of the live value;
    an item's own vector is the one that is searched.
    """
    deployment = await components.residency.get(domain)
    example = '{"items": ["n101", {"text": "Storm closes roads"}]}'
    wanted = parse_body(
        EmbedRequest, await read_body(request, components.settings.max_body_bytes), example
    )
    return _answer(await embed(_live(deployment, wanted.version), wanted, components.reader))


async def _recommended(
    components: Components, deployment: Deployment, wanted: RecommendRequest
) -> dict[str, Any]:
    if wanted.version is not None:
        return await recommend(deployment.get(wanted.version), wanted, components.reader)
    if deployment.canary is None:
        return await recommend(deployment.live, wanted, components.reader)
    return await components.canaries.recommend(
        deployment, deployment.canary, wanted, components.reader
    )


def _live(deployment: Deployment, version: int | str | None) -> LiveDomain:
    """Return the value that answers, or the one of a pinned version."""
    return deployment.live if version is None else deployment.get(version)


def _answer(value: object) -> Response:
    return Response(
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode(),
        media_type="application/json",
    )
