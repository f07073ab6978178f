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
from numpy.typing import NDArray

from adapters_store.bundle import read_bundle
from benchmarks.client import ended, tried
from benchmarks.load import request_bytes
from benchmarks.open_loop import ask
from benchmarks.setting import SPEC, domain_name, make_bundle, prepare, serving
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.embed import embed
from transrec.model import encode_users

PORT = 18090
K = 10
TOLERANCE = 1e-4
RETRIES = 1
FLIP_S = 0.005
START_S = 60.0

ItemScores = NDArray[np.float32]


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


class OfflineModel:
    """Scores of histories under every version, computed when a version is first needed."""

    def __init__(self, data: Path, items: int, histories: int) -> None:
        self._backbone = Backbone.load(data / "backbones" / "random")
        self._texts = [
            Content(f"title {number} {number * 7919 % items}") for number in range(items)
        ]
        rng = np.random.default_rng(0)
        self.histories = [
            rng.choice(items, rng.integers(1, 30), replace=False) for _ in range(histories)
        ]
        self._scores: dict[tuple[str, int], ItemScores] = {}

    def add(self, domain: str, version: int, bundle: Path) -> None:
        """Score a version's bundle."""
        adapter = Adapter.from_tensors(SPEC, self._backbone.shape, read_bundle(bundle).tensors)
        vectors = embed(self._backbone, self._texts, adapter, dtype="float32")
        users = encode_users(
            self._backbone.model.user_encoder, self.histories, vectors, adapter.user
        )
        table = users @ vectors.T
        for line, rows in zip(table, self.histories, strict=True):
            line[rows] = -np.inf
        self._scores[domain, version] = table

    def wrong(self, domain: str, place: int, answer: dict[str, object]) -> str | None:
        """Say what is wrong with an answer, None where nothing is."""
        version = answer["version"]
        scores = self._scores.get((domain, version))  # type: ignore[arg-type]
        if scores is None:
            return f"{domain} answered from version {version}, which was never activated"
        line = scores[place]
        best = np.argpartition(-line, K)[:K]
        best = best[np.argsort(-line[best], kind="stable")]
        rounding = 1e-5 * np.abs(line[np.isfinite(line)]).max()
        items: list[dict[str, object]] = answer["items"]  # type: ignore[assignment]
        rows = [int(str(item["item_id"]).removeprefix("item-")) for item in items]
        if len(set(rows)) != K:
            return f"{domain}@{version} answered {len(set(rows))} different items"
        for row, expected in zip(rows, best, strict=True):
            if abs(line[row] - line[expected]) > max(TOLERANCE * abs(line[expected]), rounding):
                return f"{domain}@{version} answered item-{row} where item-{expected} is better"
        return None


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
            began = time.perf_counter()
            _activate(client, domain, version)
            took.append(time.perf_counter() - began)
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
    rng = np.random.default_rng(1)
    with httpx.Client(base_url=url, timeout=600) as client:
        turn = 0
        while not done.is_set() or len(flips.flips) + len(flips.rollbacks) < options.flips:
            domain = domain_name(turn % options.domains)
            turn += 1
            began = time.perf_counter()
            try:
                if turn % 40 == 0:
                    version = _upload(options, offline, client, domain, 10_000 + turn)
                    began = time.perf_counter()
                    _activate(client, domain, version)
                    flips.full.append(time.perf_counter() - began)
                elif turn % 3 == 0:
                    tried(client, "POST", f"/domains/{domain}/rollback")
                    flips.rollbacks.append(time.perf_counter() - began)
                else:
                    _activate(client, domain, int(rng.choice(versions[domain])))
                    flips.flips.append(time.perf_counter() - began)
            except (httpx.HTTPError, RuntimeError) as error:
                flips.errors.append(f"{domain}: {error}")
            done.wait(0.02)


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
