"""`python -m benchmarks.bulk`: a million items in one body, and what the service's processes take
meanwhile.

The body is streamed, one item a line; the job that follows embeds, stores and compacts it. The most
that any of the service's processes had in memory of its own, of a million items over a tenth of
them, must not grow as the items do; mapped files, which the kernel drops when it needs room, do not
count.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.processes import family, own
from benchmarks.setting import prepare, serving

PORT = 18140
TARGET = 1.5
LINES = 1000


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    prepare(options.data, 1, 1000)
    peaks = [_peaks(options, items) for items in (options.items // 10, options.items)]
    for items, (server, builder, seconds) in zip(
        (options.items // 10, options.items), peaks, strict=True
    ):
        sizes = (
            f"{server / 1e6:,.0f} MB the server, {builder / 1e6:,.0f} MB the process that builds"
        )
        print(
            f"{items:,} items in {seconds:.0f} s, {items / seconds:,.0f} items/s, most in memory:"
            f" {sizes}"
        )
    value = max(many / few for few, many in zip(peaks[0][:2], peaks[1][:2], strict=True))
    bar = f"most memory of a process, {options.items:,} items over a tenth of them"
    print(
        json.dumps(
            {"bar": bar, "value": round(value, 3), "target": TARGET, "holds": value <= TARGET}
        )
    )
    return 0 if value <= TARGET else 1


def _peaks(options: argparse.Namespace, items: int) -> tuple[int, int, float]:
    """Import items into a new domain of a service that has just started;
    returns bytes, bytes and seconds.
    """
    with (
        serving(options.data, PORT) as pid,
        httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=3600) as client,
    ):
        watch = _Watch(pid)
        watch.start()
        client.put("/domains/bulk", json={}).raise_for_status()
        began = time.monotonic()
        kind = {"Content-Type": "application/x-ndjson"}
        answer = client.post("/domains/bulk/items?wait=false", content=_lines(items), headers=kind)
        job = answer.raise_for_status().json()
        while job["status"] not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.5)
            job = client.get(f"/jobs/{job['id']}").json()
        seconds = time.monotonic() - began
        card = client.get("/domains/bulk").json()
        if job["status"] != "succeeded" or card["searchable_items"] != items:
            raise RuntimeError(f"{job['error']}: {card}")
        client.delete("/domains/bulk").raise_for_status()
        watch.going = False
        watch.join()
    return watch.server, watch.builder, seconds


class _Watch(threading.Thread):
    """Looks at the processes of a service again and again,
    since the one that builds leaves when it is done.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.going = True
        self.server = self.builder = 0

    def run(self) -> None:
        """Look until `going` is False."""
        while self.going:
            for one in family(self._pid):
                try:
                    builds = (
                        b"service.embedding.worker_main"
                        in Path(f"/proc/{one}/cmdline").read_bytes()
                    )
                    size = own(one)
                except OSError:
                    continue
                if builds:
                    self.builder = max(self.builder, size)
                else:
                    self.server = max(self.server, size)
            time.sleep(0.05)


def _lines(items: int) -> Iterator[bytes]:
    for start in range(0, items, LINES):
        rows = range(start, min(items, start + LINES))
        texts = (
            {"item_id": f"item-{row}", "title": f"title {row} {row * 7919 % items}"} for row in rows
        )
        yield "".join(json.dumps(text) + "\n" for text in texts).encode()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-bulk"))
    parser.add_argument("--items", type=int, default=1_000_000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
