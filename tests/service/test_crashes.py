"""`kill -9` of the whole service:
nothing acknowledged is lost, the next start works by itself (`test_kill`: state).
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import upload, wait_for_job, wait_until
from tests.service.process import start
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_service_killed_during_activation_heals_and_finishes_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    port = free_port()
    rng = random.Random(1)
    backbone = tiny_backbone(data / "backbones" / "tiny")
    items = [{"item_id": f"i{n}", "title": f"film {n} {'storm ' * (n % 5)}"} for n in range(3000)]
    process = start(data, port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        client.put("/domains/movies", json={})
        answer = client.post("/domains/movies/items?wait=false", json=items)
        assert answer.status_code == 202
    for seed in (1, 2, 3):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            path = tiny_bundle(
                tmp_path / f"{seed}.safetensors", backbone, "movies", tiny_adapter(backbone, seed)
            )
            accepted = upload(client, path, activate="true")
            assert accepted.status_code == 202
            time.sleep(rng.uniform(0.0, 0.3))
            process.kill()
            process.wait()
        process = start(data, port)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            job = wait_for_job(client, accepted.json()["job"])
            assert job["status"] == "succeeded", job
            wait_until(lambda: client.get("/domains/movies").json()["searchable_items"] == 3000)
            answer = client.post("/recommend?domain=movies", json={"history": ["i1"]}).json()
            assert (answer["version"], len(answer["items"])) == (seed, 10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_a_service_that_is_asked_to_stop_ends_soon_and_its_job_goes_on_later(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    port = free_port()
    tiny_backbone(data / "backbones" / "tiny")
    items = [{"item_id": f"i{n}", "title": f"film {n}"} for n in range(20_000)]
    process = start(data, port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        client.put("/domains/movies", json={})
        job = client.post("/domains/movies/items?wait=false", json=items).json()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) in (0, -signal.SIGTERM)
    process = start(data, port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert wait_for_job(client, job)["status"] == "succeeded"
        assert client.get("/domains/movies").json()["searchable_items"] == 20_000
    process.kill()
    process.wait()


def test_a_service_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "backbones" / "broken").mkdir(parents=True)
    environment = {**os.environ, "SWAPREC_DATA": str(tmp_path), "SWAPREC_PORT": str(free_port())}
    command = [sys.executable, "-m", "swaprec", "serve"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert (
        "is not a backbone folder: config.json, model.safetensors, tokenizer.json missing"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
