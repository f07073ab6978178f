"""`create_app`: the one place where components are connected."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from adapters_store.store import Store
from service.access.admission import Admission
from service.access.keys import Keys, open_keys
from service.access.pace import Pace
from service.catalog.bases import Bases
from service.catalog.compaction_policy import COMPACTION_POLICY, CompactionPolicy
from service.catalog.mapped import MAX_MAPS
from service.content.blobs import Blobs
from service.content.pictures import PictureThreads
from service.content.sweeps import Sweeps
from service.data_folder import end_removals, only_process, open_state, process_name
from service.embedding.adapter_budget import AdapterBudget
from service.embedding.base_builder import BaseBuilder
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Versions
from service.embedding.worker import WorkerProcess
from service.engine.backbones import Backbones
from service.engine.queue import MAX_BATCH
from service.http.admission_middleware import AdmissionMiddleware
from service.http.auth_middleware import AuthMiddleware
from service.http.bodies import BodyBudget, BodyMiddleware
from service.http.components import Components
from service.http.encodings import ContentEncoding
from service.http.head import answer_head
from service.http.job_events import JobEvents
from service.http.lifespan import lifespan
from service.http.openapi import describe
from service.http.problem_responses import problems
from service.http.query import check_query
from service.http.request_middleware import RequestMiddleware, install_problems
from service.http.routes import adapters, domains, items, jobs, operations, probes, recommend
from service.ingest.editor import CatalogEditor
from service.ingest.imports import KIND as IMPORT
from service.ingest.imports import PATCH, Imports
from service.ingest.writer import CatalogWriter
from service.jobs import JOB_INTERVALS, MAX_OPEN_JOBS, JobIntervals, Jobs
from service.live.backlog import Backlog
from service.live.compaction import KIND as COMPACT
from service.live.compaction import Compactor
from service.live.follower import FEED_INTERVALS, FeedIntervals, Follower
from service.live.opening import ValueOpener
from service.live.reconcile import Reconciler
from service.live.residency import Residency
from service.live.table import LiveTable
from service.recommend.answer import Recommender
from service.recommend.canary import Canaries
from service.recommend.cold import ColdItems
from service.recommend.recommend import Reader
from service.rollout.activation import KIND as ACTIVATE
from service.rollout.activation import Activator
from service.rollout.candidates import Candidates
from service.rollout.domain_creator import DomainCreator
from service.rollout.gate_runner import KIND as GATE
from service.rollout.gate_runner import CanaryGateRunner, GateRunner
from service.rollout.removal import Remover
from service.rollout.upload import Uploader
from service.settings import Settings
from service.state import State
from service.state.known import LostDomains
from service.state.snapshots import Snapshots
from service.telemetry import Telemetry

ROUTERS = tuple(
    answer_head(module.router)
    for module in (recommend, adapters, domains, items, probes, jobs, operations)
)

RECOMMENDATIONS_AT_ONCE = MAX_BATCH * 3 // 2
"""Recommendations that run: a batch in the encoder, and half of the next one being read.

More make the turns of the event loop longer, and with them everybody's wait; fewer leave the
encoder half empty.
"""

MAPS_PER_DOMAIN = 16
"""Maps of a domain: eight for a base, and another one while it is replaced."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Intervals and limits of the components of an app; tests pass other values than these.

    `clock`: seconds since the epoch; only the delay after a failed build reads it.
    """

    jobs: JobIntervals = JOB_INTERVALS
    max_open_jobs: int = MAX_OPEN_JOBS
    feed: FeedIntervals = FEED_INTERVALS
    compaction: CompactionPolicy = COMPACTION_POLICY
    clock: Callable[[], float] = time.time


TUNING = Tuning()


_log = logging.getLogger("swaprec")


def create_app(
    settings: Settings,
    components: Components | None = None,
    *,
    alone: bool = True,
    on_started: Callable[[], None] = lambda: None,
    tuning: Tuning = TUNING,
) -> FastAPI:
    """Build the service.

    Args:
        settings: frozen.
        components: what `started` gave; without them the app opens its own when it starts.
        alone: whether this process holds the data folder itself; the parent of several workers does
            it for them.
        on_started: called when the components are open, before the first request.
        tuning: intervals and limits of the components that the app opens.
    """
    app = FastAPIOffline(
        redoc_url=None,
        # A redirect would name the address that this process sees, not the client's.
        redirect_slashes=False,
        title="swaprec",
        version=version("swaprec"),
        summary="Adapter-swapped recommendations: many domains from one frozen model.",
        lifespan=lambda app: lifespan(
            app,
            started(settings, alone=alone, tuning=tuning)
            if components is None
            else nullcontext(components),
            on_started,
        ),
        responses=problems(422),  # else FastAPI describes its own form of it
        dependencies=[Depends(check_query)],
        generate_unique_id_function=lambda route: route.name,
    )
    for router in ROUTERS:
        app.include_router(router)
    answer_head(app.router)  # its own pages
    install_problems(app)
    describe(app)
    # The last that is added is the outermost: a body queues as it came, and is decoded when its
    # turn has come.
    app.add_middleware(ContentEncoding)
    app.add_middleware(AdmissionMiddleware)
    app.add_middleware(AuthMiddleware)
    app.add_middleware(RequestMiddleware, root_path=settings.root_path)
    app.add_middleware(BodyMiddleware, budget=BodyBudget(settings.max_bodies_bytes))
    return app


@contextmanager
def started(
    settings: Settings, *, alone: bool = True, tuning: Tuning = TUNING
) -> Iterator[Components]:
    """Hold the data folder, unless somebody does, and open the components until the block ends.

    Raises:
        StateError, BackboneError: what keeps the service from starting.
    """
    with (
        only_process(settings.data, shared=settings.redis_url is not None)
        if alone
        else nullcontext()
    ):
        components = assemble(settings, tuning)
        try:
            yield components
        finally:
            components.jobs.stop()
            components.sweeps.close()
            components.worker.close()
            components.jobs.close()
            components.follower.close()
            components.residency.close()
            components.reader.cold.close()
            components.state.close()


def assemble(settings: Settings, tuning: Tuning = TUNING) -> Components:
    """Open and connect the components.

    Raises:
        StateError, BackboneError: what keeps the service from starting.
    """
    keys = open_keys(settings)
    with ExitStack() as opened:
        state = open_state(settings)
        opened.callback(state.close)
        components = _connected(settings, state, keys, tuning)
        opened.pop_all()
    end_removals(state, components.store)
    if trouble := components.lost.trouble():
        _log.error("%s", trouble)
    if not components.engines:
        _log.warning(
            "no backbone: put a folder into %s or name it in SWAPREC_BACKBONES",
            settings.data / "backbones",
        )
    return components


def _connected(settings: Settings, state: State, keys: Keys, tuning: Tuning) -> Components:
    data = settings.data
    live = LiveTable(state.get_domain, MAX_MAPS // MAPS_PER_DOMAIN)
    telemetry = Telemetry(live)
    engines = Backbones(settings, telemetry.observe_batch)
    store = Store(data / "adapters")
    working = Jobs(state, process_name(), tuning.jobs, tuning.max_open_jobs)
    worker = _worker(settings, engines)
    vectors = VectorFiles(data / "vectors", worker)
    bases = Bases(data / "bases")
    blobs = Blobs(data / "blobs")
    versions = Versions(
        state, store, blobs, engines, AdapterBudget.of(settings), settings.max_image_pixels
    )
    residency = Residency(live, settings.memory_bytes, telemetry.return_seconds.observe)
    swapped = telemetry.swap_seconds.observe
    backlog = Backlog(policy=tuning.compaction)
    opener = ValueOpener(state, live, versions, bases, vectors, backlog)
    reconciler = Reconciler(state, store, live, opener, backlog, residency, swapped)
    snapshots = Snapshots(data / "snapshots")
    base_builder = BaseBuilder(
        state, bases, vectors, blobs, snapshots, worker.index, settings.index_items
    )
    sweeps = Sweeps(state, blobs, snapshots, engines, working)
    compactor = Compactor(
        store, versions, base_builder, worker, reconciler, working, sweeps, tuning.clock
    )
    gate_runner = GateRunner(state, live)
    candidates = Candidates(state, live, versions, bases, reconciler, compactor)
    activator = Activator(state, store, live, reconciler, candidates, gate_runner, working)
    remover = Remover(state, store, live, bases, vectors, snapshots, reconciler, compactor)
    canary_gate_runner = CanaryGateRunner(gate_runner, store, activator.end_canary, working)
    writer = CatalogWriter(state, store, live, versions, vectors, reconciler)
    follower = Follower(state, store, live, reconciler, working, tuning.feed)
    canaries = Canaries(telemetry.observe_arm, telemetry.forget_arms, activator.end_canary)
    admission = Admission(
        max_queue=settings.max_queue,
        max_wait_s=settings.max_wait_ms / 1000,
        at_once=RECOMMENDATIONS_AT_ONCE,
    )
    imports = Imports(
        data / "imports", state, versions, writer, compactor, working, settings.max_spool_bytes
    )
    domain_creator = DomainCreator(state, store, engines, activator.publish_new_domain)
    reader = _reader(settings, state, versions, admission)
    components = Components(
        settings=settings,
        state=state,
        store=store,
        engines=engines,
        live=live,
        versions=versions,
        reconciler=reconciler,
        activator=activator,
        remover=remover,
        uploader=Uploader(state, store, versions, domain_creator, activator, working),
        domain_creator=domain_creator,
        writer=writer,
        editor=CatalogEditor(live, state, versions, writer, imports, reader.pictures),
        imports=imports,
        jobs=working,
        worker=worker,
        follower=follower,
        telemetry=telemetry,
        keys=keys,
        reader=reader,
        recommender=Recommender(residency, reader, canaries),
        canaries=canaries,
        gate_runner=gate_runner,
        canary_gate_runner=canary_gate_runner,
        residency=residency,
        sweeps=sweeps,
        admission=admission,
        job_events=JobEvents(state),
        lost=LostDomains(data, state, store),
    )
    _set_callbacks(components, compactor)
    return components


def _set_callbacks(components: Components, compactor: Compactor) -> None:
    """Set the calls that run against the direction
    of imports and cannot be handed to a constructor.
    """
    jobs = components.jobs
    imports = components.imports
    reconciler = components.reconciler
    jobs.kinds |= {
        ACTIVATE: components.activator.run_job,
        COMPACT: compactor.run_job,
        GATE: components.canary_gate_runner.run_job,
        IMPORT: imports.run_import_job,
        PATCH: imports.run_patch_job,
    }
    jobs.after |= {IMPORT: imports.remove_body, PATCH: imports.remove_body}
    components.live.load = reconciler.load
    reconciler.backlog.request_compaction = compactor.request
    reconciler.on_removed += [components.telemetry.forget, components.canaries.forget]
    compactor.on_compacted.append(components.canary_gate_runner.ask)
    components.telemetry.watch(components.follower, components.residency, jobs)


def _worker(settings: Settings, engines: Backbones) -> WorkerProcess:
    redis_url = None if settings.redis_url is None else settings.redis_url.get_secret_value()
    where = {
        "data": str(settings.data.absolute()),
        "redis": redis_url,
        "least_for_index": settings.index_items,
    }
    return WorkerProcess(
        engines.folder, least=settings.builder_items, threads=settings.threads, where=where
    )


def _reader(settings: Settings, state: State, versions: Versions, admission: Admission) -> Reader:
    cold = ColdItems(versions.adapter, settings.max_queue)
    return Reader(state, cold, Pace(admission), PictureThreads(settings.max_image_pixels))
