"""`python -m benchmarks.freshness`: how soon one worker's change is in another worker's answers.

Two workers share a port and a folder. An item is put by one and looked for in the other's recommendations until it is
there; then it is deleted and looked for until it is gone. Seconds run from the answer to the change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from benchmarks.setting import domain_name, prepare, serving

PORT, TARGET = 18110, 1.0


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    prepare(options.data, 1, options.items)
    came: list[float] = []
    went: list[float] = []
    own: list[float] = []
    with serving(options.data, PORT, workers=2):
        one, other = _two_workers()
        for number in range(options.changes):
            path, title = f"/domains/{domain_name(0)}/items/fresh-{number}", {"title": f"title {number} fresh"}
            began = time.perf_counter()
            one.put(path, json=title).raise_for_status()
            own.append(time.perf_counter() - began)
            came.append(_until(partial(_recommends, other, number)))
            one.delete(path).raise_for_status()
            if _recommends(one, number):
                raise RuntimeError("the worker that took the delete still recommends the item")
            went.append(_until(partial(_lacks, other, number)))
        one.close()
        other.close()
    for what, seconds in (("put answered after", own), ("there after", came), ("gone after", went)):
        print(f"{what}: median {1e3 * statistics.median(seconds):.0f} ms, most {1e3 * max(seconds):.0f} ms")
    value = max(came + went)
    bar = f"longest of {2 * options.changes} changes until another worker answers with it, in seconds"
    print(json.dumps({"bar": bar, "value": round(value, 4), "target": TARGET, "holds": value <= TARGET}))
    return 0 if value <= TARGET else 1


def _two_workers() -> tuple[httpx.Client, httpx.Client]:
    """Connect until two different workers have answered."""
    found: dict[str, httpx.Client] = {}
    until = time.monotonic() + 60
    while len(found) < 2:
        if time.monotonic() > until:
            raise RuntimeError("only one worker answers")
        client = httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60)
        name = client.get("/info").json()["process"]
        if client.get("/readyz").status_code != 200 or found.setdefault(name, client) is not client:
            client.close()
    one, other = found.values()
    return one, other


def _recommends(client: httpx.Client, number: int) -> bool:
    """Look for the item among those most like its own title, where it must be if it is searched at all."""
    answer = client.post(f"/similar?domain={domain_name(0)}", json={"text": f"title {number} fresh", "k": 500})
    answer.raise_for_status()
    return any(item["item_id"] == f"fresh-{number}" for item in answer.json()["items"])


def _lacks(client: httpx.Client, number: int) -> bool:
    return not _recommends(client, number)


def _until(there: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not there():
        if time.perf_counter() - began > 10 * TARGET:
            raise RuntimeError("it never came")
        time.sleep(0.002)
    return time.perf_counter() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-freshness"))
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=100)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
