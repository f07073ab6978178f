"""`/domains/{domain}/probes` and `/domains/{domain}/evaluate`:
held-out histories, and what a version makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from service.content.probe_rows import read_probes
from service.http.bodies import read_body
from service.http.dependencies import from_app
from service.http.problem_responses import problems
from service.ingest.spool import MAX_ARRAY_BYTES
from service.recommend.answer import Recommender
from service.rollout.gate_runner import CanaryGateRunner
from service.settings import Settings
from service.state import Catalogs
from service.wire.requests import EvaluateRequest
from service.wire.responses import Evaluated, ProbeCount

_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
}
_VERSION = {"content": {"application/json": {"schema": EvaluateRequest.model_json_schema()}}}

router = APIRouter(prefix="/domains/{domain}", tags=["probes"])


@dataclass(frozen=True, slots=True)
class ProbeComponents:
    """What the routes of probes use."""

    settings: Settings
    state: Catalogs
    recommender: Recommender
    canary_gate_runner: CanaryGateRunner
    reading: CapacityLimiter
    """How many bodies are read at once: the event loop waits for each thread that computes."""


ComponentsDep = Annotated[ProbeComponents, from_app("probes")]


@router.put(
    "/probes",
    summary="Replace the held-out probes",
    response_model=ProbeCount,
    openapi_extra={"requestBody": _BODY},
    responses=problems(400, 404, 413, 422, 507),
)
async def put_probes(domain: str, request: Request, components: ComponentsDep) -> ProbeCount:
    """Keep a JSON array of `{history, target}`, in place of what was kept; an empty array removes
    all.

    A canary that had to pass a gate is judged by the new ones, as a job.
    """
    incarnation = (await run_in_threadpool(components.state.get_domain, domain)).incarnation
    body = await read_body(request, min(components.settings.max_import_bytes, MAX_ARRAY_BYTES))
    probes = await to_thread.run_sync(read_probes, body, limiter=components.reading)
    await run_in_threadpool(components.state.put_probes, domain, probes, incarnation)
    if probes:
        await run_in_threadpool(components.canary_gate_runner.ask, domain)
    return {"domain": domain, "probes": len(probes)}


@router.get(
    "/probes",
    summary="Count the held-out probes",
    response_model=ProbeCount,
    responses=problems(404),
)
def count_probes(domain: str, components: ComponentsDep) -> ProbeCount:
    """Return how many probes a domain has."""
    return {"domain": domain, "probes": len(components.state.probes(domain))}


@router.post(
    "/evaluate",
    summary="Evaluate a version on the probes",
    response_model=Evaluated,
    openapi_extra={"requestBody": _VERSION},
    responses=problems(400, 404, 409, 413, 422, 429),
)
async def evaluate_version(domain: str, request: Request, components: ComponentsDep) -> Evaluated:
    """Return HR@k and NDCG@k of a version that is in memory, the live one if none is named, through
    the live path.

    Recommendations go first, so that it takes longer beside many of them.
    """
    body = partial(read_body, request, components.settings.max_body_bytes)
    return await components.recommender.evaluate(domain, body, request.is_disconnected)
