from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.load import drive, request_bytes

PORT = 18099


@pytest.fixture
def yardstick() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.noop", str(PORT)], stderr=subprocess.DEVNULL
    )
    for _ in range(200):
        try:
            httpx.post(f"http://127.0.0.1:{PORT}/noop")
            break
        except httpx.ConnectError:
            time.sleep(0.05)
    yield process.pid
    process.terminate()
    process.wait(10)


def test_the_load_counts_answers_and_the_servers_cpu(yardstick: int) -> None:
    load = drive(yardstick, PORT, [request_bytes("/noop", b"{}")] * 4, connections=2, seconds=1.0)
    assert load.failed == 0
    assert load.answered > 50
    assert 0 < load.cpu_seconds < 2 * load.seconds * (os.cpu_count() or 1)


def test_an_answer_other_than_200_is_a_failure(yardstick: int) -> None:
    load = drive(yardstick, PORT, [request_bytes("/nowhere", b"{}")], connections=1, seconds=0.3)
    assert load.answered == 0
    assert load.failed > 0
