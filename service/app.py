"""`create_app`: the one place where components are connected."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from adapters_store.store import Store
from service.access.admission import Admission
from service.access.keys import Keys, open_keys
from service.access.pace import Pace
from service.catalog.bases import Bases
from service.catalog.mapped import MAX_MAPS
from service.content.blobs import Blobs
from service.content.pictures import PictureThreads
from service.content.sweeps import Sweeps
from service.embedding.adapter_budget import AdapterBudget
from service.embedding.base_builder import BaseBuilder
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Versions
from service.embedding.worker import WorkerProcess
from service.engine.backbones import Backbones
from service.engine.queue import MAX_BATCH
from service.errors import DomainNotFound, StateError
from service.http.admission_middleware import AdmissionMiddleware
from service.http.auth_middleware import AuthMiddleware
from service.http.bodies import BodyBudget, BodyMiddleware
from service.http.components import Components, provide
from service.http.encodings import ContentEncoding
from service.http.head import answer_head
from service.http.job_events import JobEvents
from service.http.openapi import describe
from service.http.problem_responses import problems
from service.http.query import check_query
from service.http.request_middleware import RequestMiddleware, install_problems
from service.http.routes import adapters, domains, items, jobs, operations, probes, recommend
from service.ingest.editor import CatalogEditor
from service.ingest.imports import KIND as IMPORT
from service.ingest.imports import PATCH, Imports
from service.ingest.writer import CatalogWriter
from service.jobs import Jobs
from service.live.compaction import KIND as COMPACT
from service.live.compaction import Compactor
from service.live.follower import Follower
from service.live.reconcile import Reconciler
from service.live.residency import Residency
from service.live.table import LiveTable
from service.recommend.answer import Recommender
from service.recommend.canary import Canaries
from service.recommend.cold import ColdItems
from service.recommend.recommend import Reader
from service.rollout.activation import KIND as ACTIVATE
from service.rollout.activation import Activator
from service.rollout.domain_creator import DomainCreator
from service.rollout.gate_runner import KIND as GATE
from service.rollout.gate_runner import CanaryGateRunner, EventLoopReader, GateRunner
from service.rollout.upload import Uploader
from service.settings import Settings
from service.state import State, redis, sqlite
from service.state.fence import fence
from service.state.known import LostDomains, lost_state
from service.state.snapshots import Snapshots
from service.state.sqlite import SqliteState
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

_log = logging.getLogger("swaprec")


def create_app(
    settings: Settings,
    components: Components | None = None,
    *,
    alone: bool = True,
    on_started: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Build the service.

    Args:
        settings: frozen.
        components: what `started` gave; without them the app opens its own when it starts.
        alone: whether this process holds the data folder itself; the parent of several workers does
            it for them.
        on_started: called when the components are open, before the first request.
    """
    app = FastAPIOffline(
        redoc_url=None,
        # A redirect would name the address that this process sees, not the client's.
        redirect_slashes=False,
        title="swaprec",
        version=version("swaprec"),
        summary="Adapter-swapped recommendations: many domains from one frozen model.",
        lifespan=lambda app: _lifespan(
            app,
            started(settings, alone=alone) if components is None else nullcontext(components),
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


@asynccontextmanager
async def _lifespan(
    app: FastAPI, components: AbstractContextManager[Components], on_started: Callable[[], None]
) -> AsyncIterator[None]:
    with components as opened:
        app.state.components = opened
        provide(app.state, opened)
        opened.gate_runner.loop_reader = EventLoopReader(asyncio.get_running_loop(), opened.reader)
        opened.follower.start()
        opened.jobs.start()
        on_started()
        with _ending(opened):
            yield


@contextmanager
def _ending(components: Components) -> Iterator[None]:
    """End what takes long when the process is asked to stop:
    the server waits for answers before it ends the app.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        components.job_events.close()
        components.reader.pace.close()

    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread():  # only there signals are heard
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                signal.signal(number, partial(_stopped, loop, end, before))
                restored.callback(signal.signal, number, before)
        yield
    end()


def _stopped(
    loop: asyncio.AbstractEventLoop,
    end: Callable[[], None],
    before: object,
    number: int,
    frame: FrameType | None,
) -> None:
    loop.call_soon_threadsafe(end)
    if callable(before):
        before(number, frame)


@contextmanager
def started(settings: Settings, *, alone: bool = True) -> Iterator[Components]:
    """Hold the data folder, unless somebody does, and open the components until the block ends.

    Raises:
        StateError, BackboneError: what keeps the service from starting.
    """
    with (
        only_process(settings.data, shared=settings.redis_url is not None)
        if alone
        else nullcontext()
    ):
        components = assemble(settings)
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


def assemble(settings: Settings) -> Components:
    """Open and connect the components.

    Raises:
        StateError, BackboneError: what keeps the service from starting.
    """
    keys = open_keys(settings)
    with ExitStack() as opened:
        state = open_state(settings)
        opened.callback(state.close)
        components = _connected(settings, state, keys)
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


def _connected(settings: Settings, state: State, keys: Keys) -> Components:
    data = settings.data
    live = LiveTable(state.get_domain, MAX_MAPS // MAPS_PER_DOMAIN)
    telemetry = Telemetry(live)
    engines = Backbones(settings, telemetry.observe_batch)
    store = Store(data / "adapters")
    working = Jobs(state, process_name())
    worker = _worker(settings, engines)
    vectors = VectorFiles(data / "vectors", worker)
    bases = Bases(data / "bases")
    blobs = Blobs(data / "blobs")
    versions = Versions(
        state, store, blobs, engines, AdapterBudget.of(settings), settings.max_image_pixels
    )
    residency = Residency(live, settings.memory_bytes, telemetry.return_seconds.observe)
    swapped = telemetry.swap_seconds.observe
    reconciler = Reconciler(state, store, live, versions, bases, vectors, residency, swapped)
    snapshots = Snapshots(data / "snapshots")
    base_builder = BaseBuilder(
        state, bases, vectors, blobs, snapshots, worker.index, settings.index_items
    )
    sweeps = Sweeps(state, blobs, snapshots, engines, working)
    compactor = Compactor(store, versions, base_builder, worker, reconciler, working, sweeps)
    gate_runner = GateRunner(state, live)
    activator = Activator(
        state,
        store,
        live,
        versions,
        bases,
        vectors,
        snapshots,
        reconciler,
        compactor,
        gate_runner,
        working,
    )
    canary_gate_runner = CanaryGateRunner(gate_runner, store, activator.end_canary, working)
    writer = CatalogWriter(state, store, live, versions, vectors, reconciler)
    follower = Follower(state, store, live, reconciler, working)
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
    reconciler.request_compaction = compactor.request
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


def end_removals(state: State, store: Store) -> None:
    """End removals of domains that were interrupted:
    those that state has forgotten go, the others stay.
    """
    for domain in store.half_removed():
        try:
            record = state.get_domain(domain)
        except DomainNotFound:
            store.finish_removal(domain)
        else:
            store.keep_domain(domain, fence(state, record))


def process_name() -> str:
    """Name this process as no other one is named, now or later."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def open_state(settings: Settings, *, restoring: bool = False) -> State:
    """Open the state that the settings name.

    Args:
        settings: frozen.
        restoring: also make a new one in place of one that was lost.

    Raises:
        StateError: it cannot be used, it was lost, or the data folder belongs to another one.
    """
    if settings.redis_url is None:
        if (settings.data / redis.FILE).exists():
            raise StateError(
                f"the state of {settings.data} is in Redis: set REDIS_URL, or remove"
                f" {settings.data / redis.FILE} to go on without its catalogs"
            )
        lost = None if restoring else lost_state(settings.data, settings.data / sqlite.FILE)
        if lost is not None:
            raise StateError(lost)
        return SqliteState(settings.data)
    known = set(Store(settings.data / "adapters").domains())
    if (settings.data / sqlite.FILE).exists():
        embedded = SqliteState(settings.data)
        known |= {record.name for record in embedded.domains()}
        embedded.close()
    return redis.RedisState(settings.redis_url.get_secret_value(), settings.data, known)


@contextmanager
def only_process(data: Path, *, shared: bool) -> Iterator[None]:
    """Hold the data folder; the kernel lets go of it when the process dies.

    Replicas, whose state is in Redis, share it with each other.

    Raises:
        StateError: another process holds it, or it cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / ".lock").open("w")
    except OSError as error:
        raise StateError(f"data folder {data} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(
                f"another swaprec serves from {data}: stop it, or choose another folder with"
                " SWAPREC_DATA"
            ) from error
        yield
