"""`python -m benchmarks.residency`: a thousand domains in memory, and with room for a quarter of
them.

1,000 domains of 5,000 items, each with an adapter of its own, in three settings: (a) all are in
memory and one is asked, (b) all are in memory and asked by Zipf's law, (c) as (b), with a budget of
a quarter of the bytes that (b) holds, so that domains are evicted and loaded again. A server that
holds all and one with the budget run side by side and are driven in turns, (b) and (c) with the
same requests. The figures are medians of the rounds' ratios of requests per server CPU-second, b/a
and c/b. A turn is as long as the service leaves between two looks at every domain, so that most
turns pay for one.

Catalogs are equal and adapters have no item side, so that the data folder is made by embedding one
catalog once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.load import Load, drive, request_bytes
from benchmarks.many_domains import fill
from benchmarks.processes import resident
from benchmarks.setting import domain_name, serving
from service.state.sqlite import FILE

PORT = 18150
CONNECTIONS = 32
ONE_DOMAIN = 0.9
BUDGETED = 0.8
BUDGETED_SHARE = 0.25
REQUESTS = 32_768
WARM_S = 5.0
COUNTED = (
    "swaprec_domain_hits_total",
    "swaprec_domain_misses_total",
    "swaprec_domain_evictions_total",
)
RETURNS = "swaprec_return_seconds_count"
RETURNED_S = "swaprec_return_seconds_sum"


@dataclass(frozen=True, slots=True)
class Round:
    """What one round saw: one domain asked, all asked, all asked within the budget."""

    one: Load
    every: Load
    budgeted: Load

    @property
    def over_one(self) -> float:
        """All domains' traffic against one domain's: b/a."""
        return self.every.per_cpu_second / self.one.per_cpu_second

    @property
    def over_every(self) -> float:
        """A budget against none: c/b."""
        return self.budgeted.per_cpu_second / self.every.per_cpu_second

    @property
    def failed(self) -> int:
        """Answers that were not 200."""
        return self.one.failed + self.every.failed + self.budgeted.failed


def main() -> int:
    """Measure, print, return 0 when both bars hold."""
    options = _options()
    whole, budgeted = _folders(
        options.data / f"{options.domains}-{options.items}", options.domains, options.items
    )
    os.environ.pop("SWAPREC_MEMORY_BYTES", None)
    with serving(whole, PORT) as all_of_them:
        held = _metrics(PORT)["swaprec_resident_bytes"]
        os.environ["SWAPREC_MEMORY_BYTES"] = str(int(BUDGETED_SHARE * held))
        print(
            f"{options.domains:,} domains of {options.items:,} items: {held / 1e6:,.0f} MB; "
            f"budget {BUDGETED_SHARE:.0%} of it"
        )
        with serving(budgeted, PORT + 1) as some_of_them:
            for port in (PORT, PORT + 1):
                _ask_each(port, options.domains)
            _warm({PORT: all_of_them, PORT + 1: some_of_them}, options)
            before = _metrics(PORT + 1)
            rounds = [
                _round(all_of_them, some_of_them, number, options)
                for number in range(options.rounds)
            ]
            _report_returns(before, _metrics(PORT + 1))
            all_mb, some_mb = (resident(pid) / 1e6 for pid in (all_of_them, some_of_them))
            print(
                f"in memory, mapped files included: {all_mb:,.0f} MB without a budget,"
                f" {some_mb:,.0f} MB with it"
            )
    return _report(rounds)


def _round(all_of_them: int, some_of_them: int, number: int, options: argparse.Namespace) -> Round:
    """Drive the settings in turns; `number` seeds the requests."""
    mixed = _requests(_zipf(options.domains, number), options.items, number)
    alone = _requests([0] * REQUESTS, options.items, number)
    seconds: float = options.seconds
    found = Round(
        drive(all_of_them, PORT, alone, connections=CONNECTIONS, seconds=seconds),
        drive(all_of_them, PORT, mixed, connections=CONNECTIONS, seconds=seconds),
        drive(some_of_them, PORT + 1, mixed, connections=CONNECTIONS, seconds=seconds),
    )
    loads = (found.one, found.every, found.budgeted)
    rates = ", ".join(f"{load.per_cpu_second:,.0f}" for load in loads)
    served = ", ".join(f"{load.answered / load.seconds:,.0f}/s" for load in loads)
    print(
        f"round {number + 1}: {rates} per CPU-second, {served} served, "
        f"b/a {found.over_one:.3f}, c/b {found.over_every:.3f}, {found.failed} failed",
        flush=True,
    )
    return found


def _ask_each(port: int, domains: int) -> None:
    """Ask every domain once, so that its adapter has its slot,
    and see that its own version answers.
    """
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for number in range(domains):
            name = domain_name(number)
            answer = (
                client.post(f"/recommend?domain={name}", json={"history": ["item-1"]})
                .raise_for_status()
                .json()
            )
            if (answer["domain"], answer["version"]) != (name, 1):
                raise RuntimeError(f"{name} was answered by {answer['domain']}@{answer['version']}")


def _warm(servers: dict[int, int], options: argparse.Namespace) -> None:
    requests = _requests(_zipf(options.domains, -1), options.items, -1)
    for port, pid in servers.items():
        drive(pid, port, requests, connections=CONNECTIONS, seconds=WARM_S)


def _zipf(domains: int, seed: int) -> list[int]:
    """Draw domains by Zipf's law with exponent 1;
    which are asked for most does not follow from their names.
    """
    ranks = random.Random(0).sample(range(1, domains + 1), domains)
    return random.Random(seed).choices(range(domains), [1 / rank for rank in ranks], k=REQUESTS)


def _requests(domains: Sequence[int], items: int, seed: int) -> list[bytes]:
    """Build a recommendation of a known history for each of some domains."""
    rng = random.Random(seed)
    return [
        request_bytes(
            f"/recommend?domain={domain_name(number)}",
            json.dumps(
                {"history": [f"item-{row}" for row in rng.sample(range(items), 20)], "k": 10}
            ).encode(),
        )
        for number in domains
    ]


def _metrics(port: int) -> dict[str, float]:
    """Return the service's series that have no labels."""
    lines = (
        httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60)
        .raise_for_status()
        .text.splitlines()
    )
    return {
        name: float(value)
        for name, _, value in (line.partition(" ") for line in lines)
        if name[-1] not in "#}"
    }


def _report_returns(before: dict[str, float], after: dict[str, float]) -> None:
    since = {name: after[name] - before[name] for name in (*COUNTED, RETURNS, RETURNED_S)}
    hits, misses, evictions = (since[name] for name in COUNTED)
    each = since[RETURNED_S] / max(since[RETURNS], 1)
    print(
        f"with the budget: {after['swaprec_resident_bytes'] / 1e6:,.0f} MB in memory, {hits:,.0f}"
        f" hits, {misses:,.0f} misses ({misses / max(hits + misses, 1):.1%}), {evictions:,.0f}"
        f" evictions, {1000 * each:.2f} ms a return"
    )


def _report(rounds: Sequence[Round]) -> int:
    over_one, over_every = (
        [getattr(one, name) for one in rounds] for name in ("over_one", "over_every")
    )
    for name, target, ratios in (("b/a", ONE_DOMAIN, over_one), ("c/b", BUDGETED, over_every)):
        listed = ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
        print(f"{name} {statistics.median(ratios):.3f}, at least {target}: {listed}")
    value = statistics.median(over_every)
    failed = sum(one.failed for one in rounds)
    holds = statistics.median(over_one) >= ONE_DOMAIN and value >= BUDGETED and failed == 0
    bar = (
        f"requests per server CPU-second with a memory budget of {BUDGETED_SHARE:.0%} / with all"
        " domains in memory"
    )
    print(json.dumps({"bar": bar, "value": round(value, 4), "target": BUDGETED, "holds": holds}))
    return 0 if holds else 1


def _folders(home: Path, domains: int, items: int) -> tuple[Path, Path]:
    """Make the data folders of the two servers,
    unless it was done: a data folder has one server.
    """
    whole = home / "resident"
    budgeted = home / "budgeted"
    done = home / "prepared"
    if not done.exists():
        began = time.monotonic()
        fill(whole, domains, items)
        shutil.rmtree(budgeted, ignore_errors=True)
        shutil.copytree(
            whole, budgeted, copy_function=_linked, ignore=shutil.ignore_patterns(".lock")
        )
        done.touch()
        print(f"prepared {home} in {time.monotonic() - began:.0f} s")
    return whole, budgeted


def _linked(source: str, target: str) -> None:
    """Share what never changes; the state, which does, is copied."""
    if Path(source).name.startswith(FILE):
        shutil.copy2(source, target)
    else:
        os.link(source, target)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-residency"))
    parser.add_argument("--domains", type=int, default=1000)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
