"""`POST /recommend`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from service.errors import DomainLoading, QueueFull
from service.http.bodies import read_body
from service.http.dependencies import from_app
from service.http.problem_responses import problems
from service.recommend.answer import ReadBody, Recommender
from service.telemetry import Telemetry
from service.wire.requests import CompareRequest, EmbedRequest, RecommendRequest, SimilarRequest
from service.wire.responses import Comparison, Embedded, Recommendation, Similar

router = APIRouter(tags=["recommend"])


@dataclass(frozen=True, slots=True)
class RecommendComponents:
    """What the routes of recommendations use."""

    recommender: Recommender
    telemetry: Telemetry
    max_body_bytes: int


ComponentsDep = Annotated[RecommendComponents, from_app("recommend")]


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
        answer = await components.recommender.recommend(domain, _body_of(request, components))
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
    return _answer(await components.recommender.compare(domain, _body_of(request, components)))


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
    return _answer(await components.recommender.similar(domain, _body_of(request, components)))


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
    return _answer(await components.recommender.embed(domain, _body_of(request, components)))


def _body_of(request: Request, components: RecommendComponents) -> ReadBody:
    return partial(read_body, request, components.max_body_bytes)


def _answer(value: object) -> Response:
    return Response(
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode(),
        media_type="application/json",
    )
