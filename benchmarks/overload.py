"""`python -m benchmarks.overload`: twice the peak over 1,000 connections, and one domain's flood
beside another domain.

The peak is what a closed loop of 64 connections is answered. Then, from a process of its own,
requests are sent when they are due at twice that rate: first for all domains, then for one of them
while a second domain asks at a low rate. Meanwhile /livez is asked twenty times a second. Latencies
count from when a request was due.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.load import drive
from benchmarks.open_loop import Latencies, send
from benchmarks.serve import requests_of
from benchmarks.setting import domain_name, prepare, serving

PORT = 18090
CONNECTIONS = 1000
SETTLE_S = 2.0
TARGETS = {"p50_s": 1.0, "goodput": 0.8, "livez_p99_s": 0.25, "neighbour_p99_s": 0.5}
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Flood:
    """What the flood saw: answers a second,
    how many were refused or failed otherwise, percentiles in seconds.
    """

    answered_per_s: float
    refused: int
    failed: int
    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class FloodResult:
    """What was seen during one flood: itself, and the percentiles of what was asked beside it."""

    flood: Flood
    probe_p50_s: float
    probe_p99_s: float


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    prepare(options.data, options.domains, options.items)
    asked = requests_of(options.domains, options.items)
    flooding = [one for one in asked if _is_of(one, 0)]
    quiet = [one for one in asked if _is_of(one, 1)]
    with serving(options.data, PORT) as service:
        drive(service, PORT, asked, connections=64, seconds=SETTLE_S)
        load = drive(service, PORT, asked, connections=64, seconds=options.seconds)
        peak = load.answered / load.seconds
        print(f"peak: {peak:,.0f}/s over 64 connections, {load.failed} failed")
        idle = _send_paced(quiet, 20, options.seconds / 2)
        print(f"a domain alone at 20/s: p50 {_ms(idle.at(50))}, p99 {_ms(idle.at(99))}")
        everybody = _seen(asked, 2 * peak, options.seconds, [LIVEZ])
        _print("all domains at twice the peak", everybody, "/livez")
        one = _seen(flooding, 2 * peak, options.seconds, quiet)
        _print("one domain at twice the peak", one, "another domain at 20/s")
    value = {
        "p50_s": round(max(everybody.flood.p50_s, one.flood.p50_s), 3),
        "goodput": round(everybody.flood.answered_per_s / peak, 3),
        "livez_p99_s": round(everybody.probe_p99_s, 3),
        "neighbour_p99_s": round(one.probe_p99_s, 3),
    }
    refuses = everybody.flood.refused > 0 and everybody.flood.failed == 0
    below = all(value[name] <= TARGETS[name] for name in TARGETS if name != "goodput")
    holds = refuses and below and value["goodput"] >= TARGETS["goodput"]
    bar = (
        "twice the peak over 1,000 connections: p50 of what is answered, share of the peak"
        " answered, /livez, neighbour"
    )
    print(json.dumps({"bar": bar, "value": value, "target": TARGETS, "holds": holds}))
    return 0 if holds else 1


def _is_of(request: bytes, number: int) -> bool:
    return request.startswith(f"POST /recommend?domain={domain_name(number)} ".encode())


def _seen(
    requests: Sequence[bytes], rate: float, seconds: float, probe_requests: Sequence[bytes]
) -> FloodResult:
    """Flood from another process, and ask something at
    twenty a second beside it, once the flood has settled.
    """
    ours, theirs = multiprocessing.Pipe()
    given = (theirs, list(requests), rate, seconds + SETTLE_S)
    process = multiprocessing.get_context("spawn").Process(target=_flood, args=given)
    process.start()
    ours.recv()  # connected
    time.sleep(SETTLE_S)
    found = _send_paced(probe_requests, 20, seconds - 1)
    flood = Flood(**ours.recv())
    process.join()
    return FloodResult(flood, found.at(50), found.at(99))


def _flood(pipe: Connection, requests: Sequence[bytes], rate: float, seconds: float) -> None:
    began: list[float] = []

    def going() -> bool:
        if not began:
            began.append(time.monotonic())
            pipe.send(None)
        return time.monotonic() - began[0] < seconds

    seen = send(PORT, requests, rate, going, CONNECTIONS)
    took = time.monotonic() - began[0]
    failed = seen.failed - seen.refused
    flood = Flood(len(seen.seconds) / took, seen.refused, failed, seen.at(50), seen.at(99))
    pipe.send(asdict(flood))


def _send_paced(requests: Sequence[bytes], rate: float, seconds: float) -> Latencies:
    until = time.monotonic() + seconds
    return send(PORT, requests, rate, lambda: time.monotonic() < until, 16)


def _print(what: str, seen: FloodResult, probe_requests: str) -> None:
    flood = seen.flood
    print(
        f"{what}: {flood.answered_per_s:,.0f}/s answered, {flood.refused} refused, {flood.failed}"
        f" failed, p50 {_ms(flood.p50_s)}, p99 {_ms(flood.p99_s)}; {probe_requests}: p50"
        f" {_ms(seen.probe_p50_s)}, p99 {_ms(seen.probe_p99_s)}"
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-overload"))
    parser.add_argument("--domains", type=int, default=8)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
