"""`python -m benchmarks.memory`: what one more domain takes in memory, on two workers that share a
port.

The service is measured with few and with many domains, each asked on both workers until everything
that answers need was touched; before, one worker is killed and started again. Bytes are
proportional set sizes summed over all processes, so that what they share counts once; they are
compared with the adapter, the vectors once, and the ids with an offset and a popularity each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import httpx

from benchmarks.client import kill_one
from benchmarks.load import drive
from benchmarks.processes import family, pss
from benchmarks.serve import requests_of
from benchmarks.setting import domain_name, prepare, serving

PORT = 18120
TARGET = 1.25
WORKERS = 2
PER_ITEM = 16


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    few, many = (_measured(options, count) for count in (options.few, options.many))
    own = (many - few) / (options.many - options.few)
    least = _least(options)
    value = own / least
    print(f"{options.few} domains {few / 1e6:,.0f} MB, {options.many} domains {many / 1e6:,.0f} MB")
    print(
        f"one more domain of {options.items:,} items: {own / 1e6:.2f} MB, of which it needs"
        f" {least / 1e6:.2f} MB"
    )
    bar = f"bytes of one more domain on {WORKERS} workers / adapter + vectors once + ids"
    print(
        json.dumps(
            {"bar": bar, "value": round(value, 3), "target": TARGET, "holds": value <= TARGET}
        )
    )
    return 0 if value <= TARGET else 1


def _measured(options: argparse.Namespace, domains: int) -> int:
    folder = options.data / str(domains)
    prepare(folder, domains, options.items)
    # Embeds what is not embedded yet, and compacts what changed.
    with serving(folder, PORT, workers=WORKERS):
        _wait_for_bases(domains)
    with serving(folder, PORT, workers=WORKERS) as pid:
        kill_one(f"http://127.0.0.1:{PORT}")
        asked = requests_of(domains, options.items)
        for _ in range(3):
            drive(pid, PORT, asked, connections=32, seconds=max(4.0, domains / 15))
        while any(
            b"service.embedding.worker_main" in Path(f"/proc/{one}/cmdline").read_bytes()
            for one in family(pid)
        ):
            time.sleep(1.0)  # it leaves when nothing was built for a minute
        found = pss(pid)
        print(f"{domains} domains: {found / 1e6:,.0f} MB in {len(family(pid))} processes")
    return found


def _wait_for_bases(domains: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client:
        for number in range(domains):
            while (
                client.get(f"/domains/{domain_name(number)}")
                .json()
                .get("memory_bytes", {})
                .get("delta", 1)
            ):
                time.sleep(0.2)


def _least(options: argparse.Namespace) -> float:
    """Return the bytes that a domain cannot do without."""
    with serving(options.data / str(options.few), PORT, workers=1), httpx.Client() as client:
        card = client.get(f"http://127.0.0.1:{PORT}/domains/{domain_name(0)}").json()
    memory = card["memory_bytes"]
    names = sum(len(f"item-{number}") for number in range(options.items))
    return float(memory["adapter"] + memory["vectors"] + names + PER_ITEM * options.items)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-memory"))
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=60)
    parser.add_argument("--items", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
