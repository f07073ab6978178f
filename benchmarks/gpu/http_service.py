"""Section: the same load over HTTP,
on the service as it is started, with the device as a setting.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

import uvloop

from benchmarks.gpu.http_folder import folder_of
from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.serving import quantiles_ms
from benchmarks.gpu.setup import Setup
from benchmarks.open_loop import ask
from benchmarks.serve import requests_of
from benchmarks.setting import serving

PORT = 18_190
WARM_S = 2.0
GOOD = b"200"


def measure(setup: Setup, report: SectionReport) -> None:
    """Start the service over the data folder that `http_folder` filled, and load it."""
    sizes = setup.sizes
    folder = folder_of(setup)
    domains = len(list((folder / "bases").iterdir()))
    if domains < sizes.http_domains:  # it was stopped, maybe within the last one
        domains -= 1
    requests = requests_of(domains, sizes.http_items)
    os.environ["SWAPREC_DEVICE"] = setup.device
    began = time.monotonic()
    with serving(folder, PORT):
        report.figure("started_s", time.monotonic() - began)
        uvloop.run(_drive(requests, sizes.concurrency, min(WARM_S, sizes.serve_s)))
        began = time.monotonic()
        seconds, failed = uvloop.run(_drive(requests, sizes.concurrency, sizes.serve_s))
        rate = len(seconds) / (time.monotonic() - began)
    value = {
        "requests_per_s": rate,
        **quantiles_ms(seconds),
        "failed": failed,
        "domains": domains,
        "items_a_domain": sizes.http_items,
        "concurrency": sizes.concurrency,
    }
    report.figure("load", value)
    report.row(
        f"over HTTP, {setup.device}, c = {sizes.concurrency}, {domains:,} adapters",
        f"{rate:,.0f} requests/s, p50 {value['p50_ms']:.1f} ms, p99 {value['p99_ms']:.1f} ms,"
        f" {failed} failed",
    )


async def _drive(
    requests: Sequence[bytes], connections: int, seconds: float
) -> tuple[list[float], int]:
    """Ask in a closed loop; returns the seconds of each answer 200, and how many were others."""
    until = time.perf_counter() + seconds
    found = list[float]()
    failed = 0

    async def connection(number: int) -> None:
        nonlocal failed
        link = await asyncio.open_connection("127.0.0.1", PORT)
        while (began := time.perf_counter()) < until:
            status, _ = await ask(link, requests[number % len(requests)])
            if status == GOOD:
                found.append(time.perf_counter() - began)
            else:
                failed += 1
            number += connections
        link[1].close()

    await asyncio.gather(*(connection(number) for number in range(connections)))
    return found, failed
