"""`kill -9`: nothing acknowledged is lost, and the next start works by itself."""

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

from service.state.sqlite import SqliteState
from tests.service.conftest import upload, wait_for_job, wait_until
from tests.service.process import start
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle

WRITER = """
import sys
from pathlib import Path
from service.state import DomainRecord, Item
from service.state.sqlite import SqliteState
state = SqliteState(Path(sys.argv[1]))
state.put_domain(DomainRecord("movies", "f"))
print("ready", flush=True)
for number in range(int(sys.argv[2]), 10**9):
    state.upsert_items("movies", [Item(f"{number}-{part}", f"text {number}") for part in range(3)])
    print(number, flush=True)
"""


def test_state_killed_at_ten_random_moments_keeps_every_acknowledged_write(tmp_path: Path) -> None:
    rng = random.Random(0)
    acknowledged: set[int] = set()
    for turn in range(10):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(turn * 100_000)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        whole = writer.communicate()[0].rpartition("\n")[0]  # a line torn by the kill was not acknowledged
        acknowledged |= {int(line) for line in whole.splitlines()}
        state = SqliteState(tmp_path)
        ids = state.catalog("movies").ids
        state.close()
        assert {f"{number}-{part}" for number in acknowledged for part in range(3)} <= set(ids)
        assert len(ids) % 3 == 0, "a transaction was cut in two"
    assert len(acknowledged) > 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_service_killed_during_activation_heals_and_finishes_it(tmp_path: Path) -> None:
    data, port, rng = tmp_path / "data", free_port(), random.Random(1)
    backbone = tiny_backbone(data / "backbones" / "tiny")
    items = [{"item_id": f"i{n}", "title": f"film {n} {'storm ' * (n % 5)}"} for n in range(3000)]
    process = start(data, port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        client.put("/domains/movies", json={})
        answer = client.post("/domains/movies/items?wait=false", json=items)
        assert answer.status_code == 202
    for seed in (1, 2, 3):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            path = tiny_bundle(tmp_path / f"{seed}.safetensors", backbone, "movies", tiny_adapter(backbone, seed))
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
def test_a_service_that_is_told_to_stop_ends_soon_and_its_job_goes_on_later(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "is not a backbone folder: config.json, model.safetensors, tokenizer.json missing" in done.stderr
    assert "Traceback" not in done.stderr
