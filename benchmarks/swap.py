"""`python -m benchmarks.swap`: every answer under flips is the offline answer of the version that
it names.

Two workers, four domains, at least four prepared versions each. While connections ask without a
pause, versions are activated and rolled back in turn, new ones are uploaded and activated in full,
and one worker is killed and started again; a client that loses its connection asks another once.
Every answer is compared with scores that were computed offline, in this process, from the bundle's
tensors: the same ids in the same order, save where two scores differ by less than 1e-4. Then, with
nobody asking, prepared versions are activated in turn: a flip is to take 5 ms at most, from sending
the request to its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import uvloop

from benchmarks.client import ended, tried
from benchmarks.load import request_bytes
from benchmarks.offline_model import K, OfflineModel
from benchmarks.open_loop import ask
from benchmarks.setting import domain_name, make_bundle, prepare, serving

PORT = 18090
RETRIES = 1
FLIP_S = 0.005
START_S = 60.0


@dataclass(slots=True)
class Seen:
    """What the askers saw."""

    asked: int = 0
    retried: int = 0
    failures: list[str] = field(default_factory=list)
    versions: set[tuple[str, int]] = field(default_factory=set)
    processes: int = 0


@dataclass(slots=True)
class Flips:
    """What the flipper did, and how long each took from asking to the answer, in seconds."""

    flips: list[float] = field(default_factory=list)
    rollbacks: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    prepare(options.data, options.domains, options.items)
    offline = OfflineModel(options.data, options.items, 64)
    seen = Seen()
    flips = Flips()
    done = threading.Event()
    with serving(options.data, PORT, workers=2) as parent:
        url = f"http://127.0.0.1:{PORT}"
        bundles = _prepared(options, offline, url)
        flipper = threading.Thread(target=_flip, args=(options, offline, url, bundles, flips, done))
        killer = threading.Thread(target=_kill_one, args=(parent, options, seen))
        flipper.start()
        killer.start()
        started = time.monotonic()
        uvloop.run(_ask_all(options, offline, seen))
        elapsed = time.monotonic() - started
        done.set()
        flipper.join()
        killer.join()
        flips.quiet = _quiet_flips(options, url, bundles)
    return _report(options, seen, flips, elapsed)


def _quiet_flips(
    options: argparse.Namespace, url: str, versions: dict[str, list[int]]
) -> list[float]:
    """Flip among the newest two of a domain's prepared versions; returns seconds."""
    took = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for turn in range(options.quiet):
            domain = domain_name(turn % options.domains)
            version = versions[domain][turn // options.domains % 2]
            _activate(client, domain, version)  # its vectors may have left the newest base
            _activate(client, domain, versions[domain][2])
            took.append(_seconds_to_activate(client, domain, version))
            time.sleep(0.02)
    return took


def _prepared(options: argparse.Namespace, offline: OfflineModel, url: str) -> dict[str, list[int]]:
    """Upload and activate four versions of every domain; returns their numbers."""
    versions: dict[str, list[int]] = {}
    with httpx.Client(base_url=url, timeout=600) as client:
        for number in range(options.domains):
            domain = domain_name(number)
            for seed in range(4):
                versions.setdefault(domain, []).append(
                    _upload(options, offline, client, domain, 100 * number + seed)
                )
                _activate(client, domain, versions[domain][-1])
    return versions


def _upload(
    options: argparse.Namespace, offline: OfflineModel, client: httpx.Client, domain: str, seed: int
) -> int:
    path = options.data / f"swap-{domain}-{seed}.safetensors"
    make_bundle(path, options.data, domain, seed=1000 + seed)
    answer = tried(client, "POST", "/adapters", files={"file": path.read_bytes()})
    version = int(answer.json()["version"])
    offline.add(domain, version, path)
    return version


def _activate(client: httpx.Client, domain: str, version: int) -> None:
    ended(client, tried(client, "POST", f"/adapters/{domain}/versions/{version}/activate").json())


def _flip(
    options: argparse.Namespace,
    offline: OfflineModel,
    url: str,
    versions: dict[str, list[int]],
    flips: Flips,
    done: threading.Event,
) -> None:
    """Flip domains in turn until the askers are done and enough flips were made."""
    rng = np.random.default_rng(1)
    turn = 0
    with httpx.Client(base_url=url, timeout=600) as client:
        while not done.is_set() or len(flips.flips) + len(flips.rollbacks) < options.flips:
            domain = domain_name(turn % options.domains)
            turn += 1
            try:
                if turn % 40 == 0:
                    version = _upload(options, offline, client, domain, 10_000 + turn)
                    flips.full.append(_seconds_to_activate(client, domain, version))
                else:
                    _flip_prepared(client, domain, versions[domain], turn, rng, flips)
            except (httpx.HTTPError, RuntimeError) as error:
                flips.errors.append(f"{domain}: {error}")
            done.wait(0.02)


def _flip_prepared(
    client: httpx.Client,
    domain: str,
    versions: list[int],
    turn: int,
    rng: np.random.Generator,
    flips: Flips,
) -> None:
    """Roll back every third turn, else activate one of the prepared versions."""
    if turn % 3 == 0:
        began = time.perf_counter()
        tried(client, "POST", f"/domains/{domain}/rollback")
        flips.rollbacks.append(time.perf_counter() - began)
    else:
        version = int(rng.choice(versions))
        flips.flips.append(_seconds_to_activate(client, domain, version))


def _seconds_to_activate(client: httpx.Client, domain: str, version: int) -> float:
    began = time.perf_counter()
    _activate(client, domain, version)
    return time.perf_counter() - began


def _kill_one(parent: int, options: argparse.Namespace, seen: Seen) -> None:
    while seen.asked < options.requests // 2:
        time.sleep(0.05)
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    workers = [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    seen.processes = len(workers)
    os.kill(workers[0], signal.SIGKILL)
    print(f"killed worker {workers[0]} of {len(workers)} after {seen.asked:,} requests")


async def _ask_all(options: argparse.Namespace, offline: OfflineModel, seen: Seen) -> None:
    await asyncio.gather(
        *(_connection(number, options, offline, seen) for number in range(options.connections))
    )


async def _connection(
    number: int, options: argparse.Namespace, offline: OfflineModel, seen: Seen
) -> None:
    names = [[f"item-{row}" for row in rows] for rows in offline.histories]
    link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    turn = number
    while seen.asked < options.requests:
        domain = domain_name(turn % options.domains)
        place = turn % len(names)
        body = json.dumps({"history": names[place], "k": K}).encode()
        request = request_bytes(f"/recommend?domain={domain}", body)
        turn += options.connections
        seen.asked += 1
        for left in range(RETRIES, -1, -1):
            try:
                link = link or await asyncio.open_connection("127.0.0.1", PORT)
                status, content = await ask(link, request)
            except (OSError, asyncio.IncompleteReadError) as error:
                link = None
                if not left:
                    seen.failures.append(f"{domain}: {error!r}")
                seen.retried += 1
                continue
            _check(offline, seen, domain, place, status, content)
            break


def _check(
    offline: OfflineModel, seen: Seen, domain: str, place: int, status: bytes, content: bytes
) -> None:
    if status != b"200":
        seen.failures.append(f"{domain}: {status.decode()} {content[:200].decode()}")
        return
    answer = json.loads(content)
    seen.versions.add((domain, answer["version"]))
    fault = offline.wrong(domain, place, answer)
    if fault is not None:
        seen.failures.append(fault)


def _report(options: argparse.Namespace, seen: Seen, flips: Flips, elapsed: float) -> int:
    for failure in [*seen.failures[:10], *flips.errors[:10]]:
        print("wrong:", failure)
    count = len(flips.flips) + len(flips.rollbacks)
    print(
        f"{seen.asked:,} requests in {elapsed:.0f} s, {seen.retried} sent again,"
        f" {len(seen.versions)} versions seen; {len(flips.flips)} flips ({_ms(flips.flips)}),"
        f" {len(flips.rollbacks)} rollbacks ({_ms(flips.rollbacks)}), {len(flips.full)} full"
        f" activations of {options.items} items ({_ms(flips.full)})"
    )
    bad = len(seen.failures) + len(flips.errors)
    print(
        f"{len(flips.quiet)} flips with nobody asking: {_ms(flips.quiet)}, most"
        f" {1e3 * max(flips.quiet):.1f} ms"
    )
    quick = statistics.median(flips.quiet) <= FLIP_S
    holds = (
        bad == 0
        and quick
        and seen.asked >= options.requests
        and count >= options.flips
        and len(flips.full) >= options.full
    )
    bar = (
        f"failed or wrong of {seen.asked} answers over {count} flips, {len(flips.full)} full"
        " activations, 1 kill"
    )
    print(json.dumps({"bar": bar, "value": bad, "target": 0, "holds": holds}))
    return 0 if holds else 1


def _ms(seconds: list[float]) -> str:
    return f"median {1e3 * statistics.median(seconds):.1f} ms" if seconds else "none"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-swap"))
    parser.add_argument("--domains", type=int, default=4)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--full", type=int, default=5)
    parser.add_argument("--quiet", type=int, default=100)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
