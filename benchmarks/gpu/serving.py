"""Section: requests in flight together through the engine, each of another of many adapters.

In-process: what a request does between the framework's two halves, encode the history and search
the catalog exactly, through the queue that makes batches. Every domain has a catalog and an adapter
of its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import uvloop

from benchmarks.gpu.random_encoder import WEIGHT_SPREAD, draw_adapter, load
from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.setup import Setup, guarded
from service.catalog.bases import Base
from service.catalog.ids import Ids
from service.catalog.index import use_one_thread
from service.catalog.live_items import LiveItems
from service.engine.engine import Engine, History
from service.engine.slots import Slot
from service.engine.torch_engine import TorchEngine
from transrec.adapters import AdapterSpec
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.user_encoder import UserShape

HISTORY = 20
WANTED = 10
USER_ONLY = AdapterSpec.parse({"user": {"kind": "houlsby", "hidden": 16}})
REQUESTS = 8192
WARM_S = 1.0


def measure(setup: Setup, report: SectionReport) -> None:
    """Load the engine on the device, then on the CPU of the same machine."""
    use_one_thread()
    torch.set_num_threads(1)  # as the service does
    smallest = list(setup.sizes.encoders)[-1]
    catalogs = _catalogs(setup)
    for device in dict.fromkeys((setup.device, "cpu")):
        with guarded(report, device):
            _measure_one(setup, report, load(setup, smallest, device), catalogs, device)


def catalog_of(vectors: Floats, base: Base | None = None) -> LiveItems:
    """Return the items of a catalog in memory."""
    count = len(vectors)
    shared = base or Base(
        Path(),
        0,
        Ids.of([f"item-{row}" for row in range(count)]),
        np.zeros(count),
        np.arange(count, dtype=np.int32),
        count,
    )
    return LiveItems.of(shared, vectors)


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds."""
    return {f"p{percent}_ms": 1000 * float(np.percentile(seconds, percent)) for percent in (50, 99)}


def _catalogs(setup: Setup) -> list[LiveItems]:
    """Draw catalogs: windows of one table, each copied to memory of its own."""
    rng = np.random.default_rng(6)
    sizes = setup.sizes
    table = rng.standard_normal((2 * sizes.domain_items, UserShape().width), np.float32)
    starts = rng.integers(0, sizes.domain_items, sizes.domains).tolist()
    first = catalog_of(table[: sizes.domain_items])
    return [
        catalog_of(table[start : start + sizes.domain_items].copy(), first.base) for start in starts
    ]


def _slots(engine: Engine, count: int) -> list[Slot]:
    """Fill the engine's table with adapters that differ."""
    adapter = draw_adapter(engine.backbone, USER_ONLY, seed=0)
    found = []
    for _ in range(count):
        for weight in adapter.user.parameters():
            weight.normal_(std=WEIGHT_SPREAD)
        found.append(engine.take_slot(adapter.user))  # copies the weights
    return found


def _measure_one(
    setup: Setup,
    report: SectionReport,
    backbone: Backbone,
    catalogs: Sequence[LiveItems],
    device: str,
) -> None:
    batches: list[int] = []
    sizes = setup.sizes
    engine = TorchEngine(
        backbone,
        slots=sizes.domains + 1,
        max_queue=2 * sizes.concurrency,
        observe=lambda rows, _adapters: batches.append(rows),
    )
    slots = _slots(engine, len(catalogs))
    rng = random.Random(8)
    requests = []
    for _ in range(REQUESTS):
        number = rng.randrange(len(catalogs))
        rows = rng.sample(range(sizes.domain_items), HISTORY)
        requests.append(History(rows, slots[number], catalogs[number]))
    uvloop.run(_drive(engine, requests, sizes.concurrency, min(WARM_S, sizes.serve_s)))
    batches.clear()
    began = time.perf_counter()
    seconds = uvloop.run(_drive(engine, requests, sizes.concurrency, sizes.serve_s))
    rate = len(seconds) / (time.perf_counter() - began)
    value = {
        "requests_per_s": rate,
        **quantiles_ms(seconds),
        "rows_a_batch": float(np.mean(batches)),
        "adapters": len(slots),
        "items_a_domain": sizes.domain_items,
        "concurrency": sizes.concurrency,
    }
    report.figure(device, value)
    report.row(
        f"in-process, {device}, c = {sizes.concurrency}, {len(slots):,} adapters",
        f"{rate:,.0f} requests/s, p50 {value['p50_ms']:.1f} ms, p99 {value['p99_ms']:.1f} ms",
    )


async def _drive(
    engine: Engine, requests: Sequence[History], concurrency: int, seconds: float
) -> list[float]:
    """Ask in a closed loop; returns the seconds of each request."""
    until = time.perf_counter() + seconds
    found = list[float]()

    async def ask(number: int) -> None:
        while (began := time.perf_counter()) < until:
            await engine.query(requests[number % len(requests)], WANTED + HISTORY)
            found.append(time.perf_counter() - began)
            number += concurrency

    await asyncio.gather(*(ask(number) for number in range(concurrency)))
    return found
