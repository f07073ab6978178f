"""`python -m benchmarks.cycles`: what is left in memory of domains that came and went.

One worker. A cycle makes a domain under a name of its own, gives it items and an adapter, activates
it, asks it, and deletes it; between, with a memory budget for one domain, two others are asked in
turn, so that each time one is evicted and the other loaded. The memory that the processes have of
their own is compared after a tenth of the cycles, when every cache is as full as it gets, and after
all of them: medians over a stretch, since what the allocator holds goes up and down. (Shared pages
would not do: what other programs share of them counts less.)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import httpx

from benchmarks.processes import family, own
from benchmarks.setting import domain_name, make_bundle, prepare, serving

PORT = 18130
TARGET = 0.01
STRETCH = 20


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    prepare(options.data, 2, options.items)
    os.environ["SWAPREC_MEMORY_BYTES"] = "1"
    bundle = options.data / "cycle.safetensors"
    seen: list[int] = []
    with (
        serving(options.data, PORT) as pid,
        httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client,
    ):
        began = time.monotonic()
        for number in range(options.cycles):
            name = f"cycle{number}"
            if number % 500 == 0:
                make_bundle(bundle, options.data, "cycle", seed=number)
            _live_and_die(client, name, bundle, options.items)
            for other in range(2):
                client.post(
                    f"/recommend?domain={domain_name(other)}", json={"history": ["item-1"]}
                ).raise_for_status()
            if number % max(1, options.cycles // 200) == 0:
                seen.append(sum(own(one) for one in family(pid)))
        time.sleep(2.0)  # the last one's series go when the feed has told of its end
        metrics = client.get("/metrics").text
        left = {line for line in metrics.splitlines() if "cycle" in line}
        returns = next(
            line for line in metrics.splitlines() if line.startswith("swaprec_domain_misses_total")
        )
        print(
            f"{options.cycles:,} cycles in {time.monotonic() - began:.0f} s; {returns}; {len(left)}"
            " series left"
        )
    return _report(options, seen, left)


def _live_and_die(client: httpx.Client, name: str, bundle: Path, items: int) -> None:
    client.put(f"/domains/{name}", json={}).raise_for_status()
    catalog = [{"item_id": f"i{number}", "title": f"title {number}"} for number in range(items)]
    client.post(f"/domains/{name}/items", json=catalog).raise_for_status()
    with bundle.open("rb") as file:
        data = _renamed(file.read(), name)
    job = (
        client.post("/adapters", files={"file": data}, data={"activate": "true"})
        .raise_for_status()
        .json()["job"]
    )
    while job["status"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.002)
        job = client.get(f"/jobs/{job['id']}").json()
    if job["status"] != "succeeded":
        raise RuntimeError(str(job["error"]))
    answer = (
        client.post(f"/recommend?domain={name}", json={"history": ["i1"]}).raise_for_status().json()
    )
    if answer["version"] != 1:
        raise RuntimeError(f"{name} answers from {answer['version']}")
    client.delete(f"/domains/{name}").raise_for_status()


def _renamed(bundle: bytes, name: str) -> bytes:
    """Return a bundle for another domain:
    its name stands in the header, whose length comes first.
    """
    length = int.from_bytes(bundle[:8], "little")
    header = json.loads(bundle[8 : 8 + length])
    for key, value in header["__metadata__"].items():
        header["__metadata__"][key] = value.replace('"domain": "cycle"', f'"domain": "{name}"')
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bundle[8 + length :]


def _report(options: argparse.Namespace, seen: list[int], left: set[str]) -> int:
    first = seen[len(seen) // 10 :][:STRETCH]
    before = statistics.median(first)
    after = statistics.median(seen[-STRETCH:])
    drift = after / before - 1
    print(
        f"{before / 1e6:.1f} MB after a tenth, {after / 1e6:.1f} MB at the end, most"
        f" {max(seen) / 1e6:.1f} MB"
    )
    holds = drift <= TARGET and not left
    bar = (
        f"growth of memory over {options.cycles} domains that were made, activated, asked and"
        " deleted"
    )
    print(json.dumps({"bar": bar, "value": round(drift, 4), "target": TARGET, "holds": holds}))
    return 0 if holds else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-cycles"))
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--cycles", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
