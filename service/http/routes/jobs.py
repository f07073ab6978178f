"""`/jobs`: work that outlives its request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.http.dependencies import Caller, from_app, key_check
from service.http.job_events import JobEvents
from service.http.problem_responses import problems
from service.jobs import Jobs
from service.state import JobQueue, JobRecord
from service.wire import responses
from service.wire.responses import Page

EVENTS = "text/event-stream"

router = APIRouter(prefix="/jobs", tags=["jobs"])


@dataclass(frozen=True, slots=True)
class JobComponents:
    """What the routes of jobs use."""

    state: JobQueue
    jobs: Jobs
    job_events: JobEvents


ComponentsDep = Annotated[JobComponents, from_app("jobs")]


@router.get("", summary="List jobs", response_model=Page[responses.Job])
def list_jobs(
    components: ComponentsDep,
    key: Caller,
    domain: Annotated[str | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Return jobs, newest first."""
    asked = key.domains if domain is None and key.domains else (domain,)
    found = sorted(
        (job for name in asked for job in components.state.jobs(name, limit)),
        key=_created,
        reverse=True,
    )
    return {"items": [job.to_json() for job in found[:limit]], "next_cursor": None}


def _created(job: JobRecord) -> str:
    return job.created_at


@router.get(
    "/{job_id}", summary="Show a job", response_model=responses.Job, responses=problems(404)
)
def get_job(job_id: str, components: ComponentsDep, key: Caller) -> dict[str, Any]:
    """Return status, stage, progress, result or error of a job."""
    job = components.state.get_job(job_id)
    key.check("read", job.domain)
    return job.to_json()


@router.delete(
    "/{job_id}", summary="Cancel a job", response_model=responses.Job, responses=problems(404, 409)
)
def cancel_job(job_id: str, components: ComponentsDep, key: Caller) -> dict[str, Any]:
    """Cancel a queued job at once, a running one at its next step;
    what it had begun is not seen by anyone.
    """
    key.check("write", components.state.get_job(job_id).domain)
    return components.jobs.cancel(job_id).to_json()


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={
        200: {"content": {EVENTS: {}}, "description": "Events `job`, each the job as JSON."},
        **problems(404, 429),
    },
)
async def follow_job(
    job_id: str, request: Request, components: ComponentsDep, key: Caller
) -> Response:
    """Send the job whenever it changed, as server-sent events, until it ended.

    A stream that ends before, since the service stops, the key was revoked or the domain removed,
    says so in an event `end`, with a problem as its data.
    """
    job = await run_in_threadpool(components.state.get_job, job_id)
    key.check("read", job.domain)
    components.job_events.check(job_id)
    events = components.job_events.follow(job, key_check(request))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(media_type=EVENTS, headers=headers)
    return StreamingResponse(events, media_type=EVENTS, headers=headers)
