"""`python -m benchmarks.activation`: what an activation costs the requests that are answered
meanwhile.

An open loop asks all domains at 30 % of what the service can answer, in turns with and without a
version being activated in full (every item embedded, by an encoder of MiniLM's size), on two
workers. One of them is killed while the middle pair's activation runs; a request whose connection
breaks is sent once more. Bars: p99 during an activation at most 1.5 times that of the idle turn
beside it (median over pairs), and the activation done within 4 times what it takes on an idle
service. What the asker itself would wait for, making and uploading the version, is done before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import httpx

from benchmarks.client import ended, kill_one, tried
from benchmarks.load import drive
from benchmarks.open_loop import Latencies, send
from benchmarks.serve import requests_of
from benchmarks.setting import MINILM, domain_name, make_bundle, prepare, serving

PORT = 18100
TARGET = 1.5
SLOWDOWN = 4.0
LOAD_SHARE = 0.3


def main() -> int:
    """Measure, print, return 0 when the bars hold."""
    options = _options()
    prepare(options.data, options.domains, options.items, MINILM)
    asked = requests_of(options.domains, options.items)
    ratios = []
    slowdowns = []
    failed = 0
    with serving(options.data, PORT, workers=options.workers) as pid, _client() as client:
        drive(pid, PORT, asked, connections=8, seconds=2.0)
        peak = drive(pid, PORT, asked, connections=8, seconds=4.0)
        rate = LOAD_SHARE * peak.answered / peak.seconds
        print(f"peak {peak.answered / peak.seconds:,.0f} requests/s, asked at {rate:,.0f}")
        for turn in range(options.pairs + 1):
            first, second = (_upload(client, options, 2 * turn + number) for number in range(2))
            alone = _activate(client, first)
            idle = _idle(asked, rate, max(2.0, min(alone, 6.0)))
            killed = turn == (options.pairs + 1) // 2 and options.workers > 1
            busy, seconds = _while_activating(client, second, asked, rate, killed=killed)
            if turn == 0:
                continue  # the first one starts the process that embeds
            ratios.append(busy.at(99) / idle.at(99))
            slowdowns.append(seconds / alone)
            failed += busy.failed + idle.failed
            medians = f"p50 {1e3 * idle.at(50):.2f} -> {1e3 * busy.at(50):.2f} ms"
            tails = f"p99 {1e3 * idle.at(99):.2f} -> {1e3 * busy.at(99):.2f} ms ({ratios[-1]:.2f})"
            how = f", a worker was killed, {busy.retried} requests sent again" if killed else ""
            print(
                f"pair {turn}: {medians}, {tails}; activation {alone:.1f} s alone, {seconds:.1f} s"
                f" under load{how}"
            )
    value = statistics.median(ratios)
    slowdown = statistics.median(slowdowns)
    print(
        f"p99 ratios {', '.join(f'{one:.2f}' for one in sorted(ratios))}; slowdown {slowdown:.2f}"
        f" (target {SLOWDOWN})"
    )
    holds = value <= TARGET and slowdown <= SLOWDOWN and failed == 0
    bar = f"p99 while {options.items:,} items are embedded / idle, open loop at 30 % of peak"
    print(json.dumps({"bar": bar, "value": round(value, 3), "target": TARGET, "holds": holds}))
    return 0 if holds else 1


def _client() -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=600)


def _upload(client: httpx.Client, options: argparse.Namespace, seed: int) -> int:
    """Upload a new version of the first domain; returns its number."""
    domain = domain_name(0)
    path = options.data / "activation.safetensors"
    make_bundle(path, options.data, domain, seed=options.seed + seed)
    with path.open("rb") as file:
        return int(
            tried(client, "POST", "/adapters", files={"file": file.read()}).json()["version"]
        )


def _activate(client: httpx.Client, version: int) -> float:
    """Activate a version of the first domain, every item embedded; returns the seconds it took."""
    started = time.perf_counter()
    ended(
        client,
        tried(client, "POST", f"/adapters/{domain_name(0)}/versions/{version}/activate").json(),
        0.1,
    )
    return time.perf_counter() - started


def _idle(asked: list[bytes], rate: float, seconds: float) -> Latencies:
    until = time.monotonic() + seconds
    return send(PORT, asked, rate, lambda: time.monotonic() < until, connections=64)


def _while_activating(
    client: httpx.Client, version: int, asked: list[bytes], rate: float, *, killed: bool
) -> tuple[Latencies, float]:
    took: list[float] = []
    working = threading.Thread(target=lambda: took.append(_activate(client, version)))
    killing = threading.Timer(2.0, kill_one, [f"http://127.0.0.1:{PORT}"])
    working.start()
    if killed:
        killing.start()
    seen = send(PORT, asked, rate, working.is_alive, connections=64)
    working.join()
    if killed:
        killing.join()
    return seen, took[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-activation"))
    parser.add_argument("--domains", type=int, default=10)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=os.getpid())
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
