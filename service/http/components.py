"""The components of an app, and which of them its middleware and each of its routers get.

Nobody but the app and tests sees all of them. A router has its own few, a frozen dataclass next to
its routes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from anyio import CapacityLimiter
from starlette.datastructures import State as AppState

from adapters_store.store import Store
from service.access.admission import Admission
from service.access.keys import Keys
from service.content.sweeps import Sweeps
from service.embedding.versions import Versions
from service.embedding.worker import WorkerProcess
from service.engine.backbones import Backbones
from service.http.bodies import Receiving
from service.http.dependencies import MiddlewareComponents
from service.http.job_events import JobEvents
from service.http.routes.adapters import AdapterComponents
from service.http.routes.domains import DomainComponents
from service.http.routes.items import ItemComponents
from service.http.routes.jobs import JobComponents
from service.http.routes.operations import OperationComponents
from service.http.routes.probes import ProbeComponents
from service.http.routes.recommend import RecommendComponents
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
from service.rollout.removal import Remover
from service.rollout.upload import Uploader
from service.settings import Settings
from service.state import State
from service.state.known import LostDomains
from service.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Components:
    """All components; `assemble` in `app.py` makes them, `started` closes them."""

    settings: Settings
    state: State
    store: Store
    engines: Backbones
    live: LiveTable
    versions: Versions
    reconciler: Reconciler
    activator: Activator
    remover: Remover
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


def provide(state: AppState, components: Components) -> None:
    """Give the middleware and each router of an app what they use, by the names that `from_app`
    asks for.
    """
    max_body_bytes = components.settings.max_body_bytes
    state.middleware = MiddlewareComponents(
        keys=components.keys,
        admission=components.admission,
        live=components.live,
        lost=components.lost,
        telemetry=components.telemetry,
        max_body_bytes=max_body_bytes,
    )
    state.recommend = RecommendComponents(
        components.recommender, components.telemetry, max_body_bytes
    )
    state.adapters = AdapterComponents(
        settings=components.settings,
        state=components.state,
        store=components.store,
        uploader=components.uploader,
        activator=components.activator,
        remover=components.remover,
        receiving=components.receiving,
    )
    state.domains = DomainComponents(
        state=components.state,
        store=components.store,
        live=components.live,
        creator=components.domain_creator,
        activator=components.activator,
        remover=components.remover,
        max_body_bytes=max_body_bytes,
    )
    state.items = ItemComponents(
        settings=components.settings,
        state=components.state,
        editor=components.editor,
        writer=components.writer,
        imports=components.imports,
        jobs=components.jobs,
        receiving=components.receiving,
    )
    state.probes = ProbeComponents(
        settings=components.settings,
        state=components.state,
        recommender=components.recommender,
        canary_gate_runner=components.canary_gate_runner,
        reading=CapacityLimiter(1),
    )
    state.jobs = JobComponents(components.state, components.jobs, components.job_events)
    state.operations = OperationComponents(
        state=components.state,
        live=components.live,
        engines=components.engines,
        jobs=components.jobs,
        lost=components.lost,
        telemetry=components.telemetry,
    )
