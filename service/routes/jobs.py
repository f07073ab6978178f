"""`/jobs`: work that outlives its request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from service import answers
from service.answers import Page
from service.parts import Caller, Given, problems
from service.state import Job

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("", summary="List jobs", response_model=Page[answers.Job])
def list_jobs(
    parts: Given,
    key: Caller,
    domain: Annotated[str | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Return jobs, newest first."""
    asked = key.domains if domain is None and key.domains else (domain,)
    found = sorted((job for name in asked for job in parts.state.jobs(name, limit)), key=_created, reverse=True)
    return {"items": [job.to_json() for job in found[:limit]], "next_cursor": None}


def _created(job: Job) -> str:
    return job.created_at


@router.get("/{job_id}", summary="Show a job", response_model=answers.Job, responses=problems(404))
def get_job(job_id: str, parts: Given, key: Caller) -> dict[str, Any]:
    """Return status, stage, progress, result or error of a job."""
    job = parts.state.get_job(job_id)
    key.check("read", job.domain)
    return job.to_json()
