"""`/jobs`: work that outlives its request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from service.parts import Given, problems

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("", summary="List jobs")
def list_jobs(
    parts: Given, domain: Annotated[str | None, Query()] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Return jobs, newest first."""
    return {"items": [job.to_json() for job in parts.state.jobs(domain, limit)], "next_cursor": None}


@router.get("/{job_id}", summary="Show a job", responses=problems(404))
def get_job(job_id: str, parts: Given) -> dict[str, Any]:
    """Return status, stage, progress, result or error of a job."""
    return parts.state.get_job(job_id).to_json()
