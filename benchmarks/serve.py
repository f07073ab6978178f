"""`python -m benchmarks.serve`: requests per server CPU-second against a FastAPI no-op.

32 connections, 100 domains mixed, 10,000 items each; a request has 20 known ids, k = 10, what was
seen excluded, validation and metrics on. The two servers are measured in turns; the figure is the
median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

from benchmarks.load import Load, drive, request_bytes
from benchmarks.setting import domain_name, prepare, serving, yardstick

TARGET = 0.45
REQUESTS = 4096
PORT = 18080


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    prepare(options.data, options.domains, options.items)
    asked = requests_of(options.domains, options.items)
    noop = [request_bytes("/noop", b"{}")] * options.connections
    pairs: list[tuple[Load, Load]] = []
    with serving(options.data, PORT) as service, yardstick(PORT + 1) as base:
        drive(service, PORT, asked, connections=options.connections, seconds=2.0)  # warm
        for number in range(options.pairs):
            ours = drive(
                service, PORT, asked, connections=options.connections, seconds=options.seconds
            )
            theirs = drive(
                base, PORT + 1, noop, connections=options.connections, seconds=options.seconds
            )
            pairs.append((ours, theirs))
            print(
                f"pair {number + 1}: {ours.per_cpu_second:,.0f} against"
                f" {theirs.per_cpu_second:,.0f} per CPU-second,"
                f" {ours.answered / ours.seconds:,.0f}/s served, {ours.failed} failed"
            )
    ratios = sorted(ours.per_cpu_second / theirs.per_cpu_second for ours, theirs in pairs)
    value = statistics.median(ratios)
    failed = sum(ours.failed for ours, _ in pairs)
    print(
        f"ratios {', '.join(f'{ratio:.3f}' for ratio in ratios)}; {options.domains} domains of"
        f" {options.items} items"
    )
    holds = value >= TARGET and failed == 0
    bar = "requests per server CPU-second / FastAPI no-op"
    print(json.dumps({"bar": bar, "value": round(value, 4), "target": TARGET, "holds": holds}))
    return 0 if holds else 1


def requests_of(domains: int, items: int) -> list[bytes]:
    """Build recommendations of known histories, domains mixed."""
    rng = random.Random(0)
    return [
        request_bytes(
            f"/recommend?domain={domain_name(rng.randrange(domains))}",
            json.dumps(
                {"history": [f"item-{row}" for row in rng.sample(range(items), 20)], "k": 10}
            ).encode(),
        )
        for _ in range(REQUESTS)
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-serve"))
    parser.add_argument("--domains", type=int, default=100)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
