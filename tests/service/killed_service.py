"""A service of several processes, to be killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.service.conftest import wait_until
from tests.service.process import listens, start
from tests.service.test_crashes import free_port

TIMEOUT_S = 8.0


class KilledService:
    """Two workers, their parent and, while something is built, a third child."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return start(self.data, self.port, SWAPREC_WORKERS="2", SWAPREC_BUILDER_ITEMS="300")

    def family(self, pid: int | None = None) -> dict[int, str]:
        """Return the processes, each with what it is."""
        found = {self.process.pid: "parent"} if pid is None else {}
        pid = self.process.pid if pid is None else pid
        for child in _children(pid):
            with suppress(OSError):
                line = Path(f"/proc/{child}/cmdline").read_bytes()
                if b"service.embedding.worker_main" in line:
                    found[child] = "builder"
                elif b"spawn_main" in line:
                    found[child] = "worker"
                found |= self.family(child)
        return found

    def kill(self, rng: random.Random) -> str:
        """Kill one process, or all of them; returns what was killed."""
        what = rng.choice(["worker", "builder", "all", "builder"])
        until = time.monotonic() + TIMEOUT_S
        there = self.family()
        while what == "builder" and not self._builds(there):  # it is to be killed while it works
            if time.monotonic() > until:
                what = "worker"
            time.sleep(0.005)
            there = self.family()
        victims = (
            list(there)
            if what == "all"
            else [rng.choice([pid for pid, kind in there.items() if kind == what])]
        )
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if what == "all":
            self.process.wait()
            wait_until(lambda: not listens(self.url))
        return what

    def _builds(self, there: dict[int, str]) -> bool:
        """Whether the building process works, by its use of the processor in a moment."""
        builders = [pid for pid, kind in there.items() if kind == "builder"]
        with suppress(OSError, IndexError):
            before = _nanoseconds(builders[0])
            time.sleep(0.005)
            return _nanoseconds(builders[0]) > before + 1_000_000
        return False

    @contextmanager
    def healed(self) -> Iterator[list[httpx.Client]]:
        """Start what nobody else starts, and wait for both workers; yields a connection to each."""
        if self.process.poll() is not None:
            self.process = self._start()
        found: dict[str, httpx.Client] = {}

        def both() -> bool:
            client = httpx.Client(base_url=self.url, timeout=60)
            with suppress(httpx.TransportError):
                if client.get("/readyz").status_code == 200:
                    name = client.get("/info").json()["process"]
                    if found.setdefault(name, client) is client:
                        return len(found) == 2
            client.close()
            return False

        try:
            wait_until(both, 60)
            yield list(found.values())
        finally:
            for client in found.values():
                client.close()

    def stop(self) -> None:
        """End it, whatever state it is in."""
        for pid in self.family() if self.process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _children(pid: int) -> list[int]:
    """Return what any thread of a process has started."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it ended meanwhile
            found += [int(child) for child in thread.read_text().split()]
    return found


def _nanoseconds(pid: int) -> int:
    """Return how long any thread of a process has had a processor."""
    return sum(
        int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )
