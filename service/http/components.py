"""The components of an app, in one frozen value that routes get as a dependency."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from adapters_store.store import Store
from service.access.admission import Admission
from service.access.keys import Key, Keys
from service.content.sweeps import Sweeps
from service.embedding.versions import Versions
from service.embedding.worker import WorkerProcess
from service.engine.backbones import Backbones
from service.http.bodies import Receiving
from service.http.job_events import JobEvents
from service.ingest.editor import CatalogEditor
from service.ingest.imports import Imports
from service.ingest.writer import CatalogWriter
from service.jobs import Jobs
from service.live.follower import Follower
from service.live.reconcile import Reconciler
from service.live.residency import Residency
from service.live.table import LiveTable
from service.recommend.answer import Recommender
from service.recommend.canary import Canaries
from service.recommend.recommend import Reader
from service.rollout.activation import Activator
from service.rollout.domain_creator import DomainCreator
from service.rollout.gate_runner import CanaryGateRunner, GateRunner
from service.rollout.upload import Uploader
from service.settings import Settings
from service.state import State
from service.state.known import LostDomains
from service.telemetry import Telemetry
from service.wire.requests import ProblemBody

CHECK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Components:
    """Everything routes need; built by `create_app`."""

    settings: Settings
    state: State
    store: Store
    engines: Backbones
    live: LiveTable
    versions: Versions
    reconciler: Reconciler
    activator: Activator
    uploader: Uploader
    domain_creator: DomainCreator
    writer: CatalogWriter
    editor: CatalogEditor
    imports: Imports
    jobs: Jobs
    worker: WorkerProcess
    follower: Follower
    telemetry: Telemetry
    keys: Keys
    reader: Reader
    recommender: Recommender
    canaries: Canaries
    gate_runner: GateRunner
    canary_gate_runner: CanaryGateRunner
    residency: Residency
    sweeps: Sweeps
    admission: Admission
    job_events: JobEvents
    lost: LostDomains
    receiving: Receiving = field(default_factory=Receiving)


# Async: a plain function would cost a thread at every request.
async def _components(
    request: Request,
) -> Components:
    components: Components = request.app.state.components
    return components


def caller(request: Request) -> Key:
    """Return whose key the request came with."""
    key: Key = request.state.key
    return key


async def _caller(request: Request) -> Key:
    return caller(request)


ComponentsDep = Annotated[Components, Depends(_components)]
Caller = Annotated[Key, Depends(_caller)]


def key_check(request: Request) -> Callable[[], None]:
    """Return what checks the key of a request again, while it goes on."""
    components: Components = request.app.state.components
    authorization = request.headers.get("authorization")
    before = caller(request)
    return lambda: components.keys.check_again(authorization, before)


async def stream(request: Request) -> AsyncIterator[bytes]:
    """Yield the chunks of a body; its key is checked again every second.

    Raises:
        KeyInvalid, ScopeDenied: the key was revoked meanwhile, or may do less.
    """
    check = key_check(request)
    checked = time.monotonic()
    async for chunk in request.stream():
        if time.monotonic() - checked > CHECK_EVERY_S:
            check()
            checked = time.monotonic()
        if chunk:
            yield chunk


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document which errors a route answers, for the OpenAPI document."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


_MEANINGS = {
    400: "Malformed body.",
    401: "No key that is known here.",
    403: "The key may not do this.",
    404: "Domain, version, item or job not found.",
    409: "Contradicts what is there.",
    413: "Body too large.",
    415: "Not a format that is read here.",
    422: "Invalid values, all of them listed.",
    429: "Too many requests wait; see Retry-After.",
    500: "Internal error; the log has it under the request id.",
    503: "Not ready yet, or state does not answer; see Retry-After.",
    507: "No room on the disk, or in Redis.",
}
PROBLEM_SCHEMA = ProblemBody.model_json_schema()
