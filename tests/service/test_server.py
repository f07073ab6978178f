"""How the service ends when it is asked to."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import httpx

from tests.service.process import start
from tests.service.test_crashes import free_port
from tests.tiny import tiny_backbone

GRACE_S = 30
ITEMS = 20_000


def test_a_job_under_sigterm_stops_at_a_step_and_the_next_process_ends_it(tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "backbones" / "tiny")
    port = free_port()
    first = start(tmp_path, port)
    lines = "".join(
        json.dumps({"item_id": f"i{n}", "title": f"the storm {n}"}) + "\n" for n in range(ITEMS)
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        client.put("/domains/movies", json={})
        accepted = client.post(
            "/domains/movies/items?wait=false",
            content=lines,
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert accepted.status_code == 202
    first.send_signal(signal.SIGTERM)
    assert first.wait(GRACE_S) == 0, "a service that ended as told did not fail"

    second = start(tmp_path, port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until = time.monotonic() + 60
            job = accepted.json()
            while job["status"] not in ("succeeded", "failed"):
                assert time.monotonic() < until, job
                time.sleep(0.1)
                job = client.get(f"/jobs/{job['id']}").json()
            assert job["status"] == "succeeded"
            assert client.get("/domains/movies").json()["searchable_items"] == ITEMS
    finally:
        second.kill()
        second.wait()
