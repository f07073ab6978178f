"""How benchmarks ask while workers come and go:
another one, once, where the one that was asked is gone.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import httpx

TIMEOUT_S = 60.0


def tried(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """Ask, and once more where the worker that was asked is gone.

    Raises:
        httpx.HTTPError: both are gone, or the answer is an error.
    """
    try:
        answer = client.request(method, path, **more)
    except httpx.TransportError:
        answer = client.request(method, path, **more)
    return answer.raise_for_status()


def ended(client: httpx.Client, job: dict[str, Any], every_s: float = 0.002) -> dict[str, Any]:
    """Wait until a job has succeeded; returns it.

    Raises:
        RuntimeError: it did not succeed.
    """
    while job["status"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(every_s)
        job = tried(client, "GET", f"/jobs/{job['id']}").json()
    if job["status"] != "succeeded":
        raise RuntimeError(str(job["error"]))
    return job


def two_workers(url: str) -> dict[int, httpx.Client]:
    """Connect until two different workers have answered and are ready;
    returns a connection to each, by its pid.
    """
    found: dict[int, httpx.Client] = {}
    until = time.monotonic() + TIMEOUT_S
    while len(found) < 2:
        if time.monotonic() > until:
            raise RuntimeError("only one worker answers")
        client = httpx.Client(base_url=url, timeout=60)
        try:
            pid = int(client.get("/info").json()["process"].split("-")[-2])
            kept = (
                client.get("/readyz").status_code == 200 and found.setdefault(pid, client) is client
            )
        except httpx.TransportError:
            kept = False
        if not kept:
            client.close()
            time.sleep(0.01)
    return found


def kill_one(url: str) -> int:
    """Kill a worker of two and wait until its successor answers; returns the pid that is gone."""
    before = two_workers(url)
    for client in before.values():
        client.close()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    for client in two_workers(url).values():
        client.close()
    return victim
