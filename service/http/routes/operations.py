"""What operators and orchestrators ask."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from service.engine.backbones import Backbones
from service.errors import StateUnavailable
from service.http.dependencies import from_app
from service.http.problem_responses import problems
from service.jobs import Jobs
from service.live.table import LiveTable
from service.state import State
from service.state.known import LostDomains
from service.telemetry import Telemetry
from service.version import version_name
from service.wire.responses import Alive, Info, Readiness

router = APIRouter(tags=["operations"])


@dataclass(frozen=True, slots=True)
class OperationComponents:
    """What the routes of operators use."""

    state: State
    live: LiveTable
    engines: Backbones
    jobs: Jobs
    lost: LostDomains
    telemetry: Telemetry


ComponentsDep = Annotated[OperationComponents, from_app("operations")]


@router.get("/livez", summary="Is the process alive?", response_model=Alive)
async def livez() -> Alive:
    """Answer as long as the event loop turns; loading never makes it fail."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it answer?", response_model=Readiness, responses=problems(503))
async def readyz(components: ComponentsDep, response: Response) -> Readiness:
    """Answer 200 once the domains that were live before the start are live again; a later
    activation changes nothing.

    A domain that cannot be restored is named and keeps no other from being served. With its state
    gone the service still answers recommendations: it stays ready, and says what it lacks under
    `degraded`. So it does where its state lacks domains that the data folder knows.
    """
    loading = components.live.loading
    response.status_code = 503 if loading else 200
    return {
        "status": "loading" if loading else "ready",
        "loading": loading,
        "broken": components.live.broken,
        "degraded": await _degraded(components),
    }


async def _degraded(components: OperationComponents) -> dict[str, str]:
    """Say what is missing; the state is asked only where domains were lost."""
    trouble = components.state.trouble()
    if trouble is not None:
        return {"state": trouble}
    if not components.lost.at_start:
        return {}
    try:
        lost = await run_in_threadpool(components.lost.trouble)
    except StateUnavailable as error:
        return {"state": error.detail}
    return {} if lost is None else {"domains": lost}


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text form."}},
)
async def metrics(components: ComponentsDep) -> Response:
    """Return all metrics."""
    return Response(components.telemetry.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/info", summary="What runs here", response_model=Info)
def info(components: ComponentsDep) -> dict[str, Any]:
    """Return version, state, backbones with their device and size,
    and the memory of each domain by part.
    """
    names = components.engines.names()
    deployments = sorted(components.live.all(), key=lambda deployment: deployment.live.domain)
    return {
        "version": version("swaprec"),
        "process": components.jobs.owner,
        "state": components.state.describe(),
        "backbones": [
            {
                "name": names[fingerprint],
                "fingerprint": fingerprint,
                "device": str(engine.backbone.device),
                "parameters": engine.backbone.parameters_total,
                "memory_bytes": engine.backbone.parameters_total * 4,
                "adapters_in_table": engine.slots_in_use,
            }
            for fingerprint, engine in components.engines.items()
        ],
        "domains": [
            {
                "domain": deployment.live.domain,
                "version": version_name(deployment.live.version),
                "items": len(deployment.live.items),
                "memory_bytes": deployment.live.memory(),
            }
            for deployment in deployments
        ],
    }
