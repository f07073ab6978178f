"""The whole service as a process of its own, to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S = 180
"""Seconds that a service may need to start on a machine that is busy."""


def start(data: Path, port: int, **more: str) -> subprocess.Popen[bytes]:
    """Start `swaprec serve` with more of an environment, and wait until it answers."""
    environment = {
        **os.environ,
        "SWAPREC_DATA": str(data),
        "SWAPREC_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        **more,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "swaprec", "serve"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return process
        except httpx.TransportError:
            assert process.poll() is None, "the service ended"
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError("the service did not come up")


def listens(url: str) -> bool:
    """Whether anything answers there."""
    try:
        httpx.get(f"{url}/livez", timeout=1)
    except httpx.TransportError:
        return False
    return True


@contextmanager
def serving(data: Path, port: int, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve with more of an environment until the block ends."""
    process = start(data, port, **more)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
