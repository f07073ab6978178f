"""Section: seconds from an adapter to a catalog that is embedded, indexed and verified.

It's the work of the service's activation job (`service.embedding.base_builder`) on a catalog that
lies in SQLite: read, embed with the adapter, build and tune the index, verify, write. What a
process does once, loading the backbone and the first kernels, comes before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.gpu.random_encoder import HOULSBY, draw_adapter, draw_titles, load
from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.setup import Setup, gpu_fast, guarded
from service.catalog.bases import Bases
from service.catalog.index import use_one_thread
from service.content.blobs import Blobs
from service.embedding.base_builder import BaseBuilder
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Prepared
from service.embedding.worker import WorkerProcess
from service.settings import Settings
from service.state import DomainRecord, StoredItem
from service.state.snapshots import Snapshots
from service.state.sqlite import SqliteState
from transrec.backbone import Backbone
from transrec.devices import resolve_dtype
from transrec.embed import embed
from transrec.gpu import GPU_FAST

DOMAIN = "news"
UPSERT_ROWS = 20_000
WARM_ITEMS = 2000
MAX_TURNS = 2


@dataclass(slots=True)
class Stages:
    """Seconds of each stage of one activation; those that have ended are in the report at once."""

    report: SectionReport
    turn: int
    seconds: dict[str, float] = field(default_factory=dict)
    _name: str = "read"
    _began: float = field(default_factory=time.perf_counter)

    def enter(self, name: str) -> Callable[[int, int], None]:
        """Begin a stage; the one before ends."""
        self.end()
        self._name = name
        return lambda _done, _total: None

    def end(self) -> None:
        """End the stage that runs."""
        now = time.perf_counter()
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._began
        self._began = now
        self.report.figure(f"stages_s_{self.turn}", self.seconds)


def measure(setup: Setup, report: SectionReport) -> None:
    """Fill a catalog, activate adapters one after the other, and report the slowest turn."""
    use_one_thread()
    backbone = load(setup, setup.sizes.main)
    backbone.save(setup.folder / "activation" / "backbone")
    titles = draw_titles(setup.sizes.items, setup.sizes.vocabulary, 2)
    builder, record = _catalog(setup, backbone, titles)
    embed(
        backbone,
        draw_titles(WARM_ITEMS, setup.sizes.vocabulary, 3),
        draw_adapter(backbone, HOULSBY, 99),
    )
    totals: list[float] = []
    while len(totals) < MAX_TURNS and (not totals or setup.left_s > 1.5 * totals[-1]):
        seconds = _activate(setup, report, builder, record, backbone, len(totals) + 1)
        totals.append(sum(seconds.values()))
        parts = ", ".join(f"{name} {taken:.1f}" for name, taken in seconds.items())
        report.row(f"{len(titles):,} items, turn {len(totals)}", f"{totals[-1]:.1f} s ({parts})")
        # The first turn also starts the process that builds indexes.
        report.bar("activation_s", max(totals))
    for on in (False, True):
        with guarded(report, "embedding alone"), gpu_fast(on=on):
            _embed_alone(setup, report, backbone, titles, f"embedding alone, {GPU_FAST}={int(on)}")
    with guarded(report, f"a turn, {GPU_FAST}=1"), gpu_fast():
        seconds = _activate(setup, report, builder, record, backbone, MAX_TURNS + 1)
        parts = ", ".join(f"{name} {taken:.1f}" for name, taken in seconds.items())
        report.row(
            f"{len(titles):,} items, {GPU_FAST}=1", f"{sum(seconds.values()):.1f} s ({parts})"
        )
    builder.state.close()


def _catalog(
    setup: Setup, backbone: Backbone, titles: list[str]
) -> tuple[BaseBuilder, DomainRecord]:
    data = setup.folder / "activation"
    settings = Settings(data=setup.folder / "activation")
    state = SqliteState(data)
    state.put_domain(DomainRecord(DOMAIN, backbone.fingerprint))
    began = time.perf_counter()
    for start in range(0, len(titles), UPSERT_ROWS):
        rows = enumerate(titles[start : start + UPSERT_ROWS], start)
        state.upsert_items(DOMAIN, [StoredItem(f"item-{row}", title) for row, title in rows])
    print(f"{len(titles):,} items stored in {time.perf_counter() - began:.1f} s", flush=True)
    worker = WorkerProcess(lambda _: None, least=0, threads=settings.threads)
    builder = BaseBuilder(
        state,
        Bases(data / "bases"),
        VectorFiles(data / "vectors", worker),
        Blobs(data / "blobs"),
        Snapshots(data / "snapshots"),
        worker.index,
        min(settings.index_items, len(titles)),
    )
    return builder, state.get_domain(DOMAIN)


def _activate(
    setup: Setup,
    report: SectionReport,
    builder: BaseBuilder,
    record: DomainRecord,
    backbone: Backbone,
    version: int,
) -> dict[str, float]:
    """Build the base of one version; returns the seconds of each stage."""
    adapter = draw_adapter(backbone, HOULSBY, version)
    dtype = resolve_dtype("auto", backbone.device)
    prepared = Prepared(version, f"{version:064x}"[::-1], dtype, adapter, 0)
    setup.synchronize()
    stages = Stages(report, version)
    builder.build(record, backbone, [prepared], version, stages.enter)
    stages.end()
    return stages.seconds


def _embed_alone(
    setup: Setup, report: SectionReport, backbone: Backbone, titles: list[str], what: str
) -> None:
    """Time the embedding without the service around it."""
    setup.synchronize()
    began = time.perf_counter()
    embed(backbone, titles, draw_adapter(backbone, HOULSBY, 1))
    seconds = time.perf_counter() - began
    report.figure(what, seconds)
    report.row(f"{len(titles):,} items, {what}", f"{seconds:.1f} s")
