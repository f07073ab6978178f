"""What an operator reads in the log: one line for each change, none that a client forged."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

import httpx
import pytest

from service.access.keys import KeyFile, Keys
from service.app import create_app
from service.server import LoggingServer, listen, server_config
from service.settings import Settings
from service.wire.problems import one_line
from service.workers import _why
from tests.service.conftest import MakeBundle, activate, upload, wait_for_job, wait_until


def test_every_change_of_a_domain_leaves_a_line(
    client: httpx.Client, bundle: MakeBundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "swaprec")
    client.put("/domains/movies", json={})
    rows = [{"item_id": f"i{n}", "title": f"film {n}"} for n in range(30)] + [{"item_id": "bad"}]
    client.post("/domains/movies/items", json=rows)
    activate(client, bundle(1))
    upload(client, bundle(2))
    canary = {"canary_percent": 10}
    wait_for_job(client, client.post("/adapters/movies/versions/2/activate", json=canary).json())
    client.post("/adapters/movies/versions/2/promote")
    client.post("/domains/movies/rollback")
    client.delete("/adapters/movies/versions/2")
    client.delete("/domains/movies")
    text = "\n".join(record.getMessage() for record in caplog.records)
    for line in (
        "movies: the domain is created",
        "movies: import ended: 30 accepted, 0 updated, 0 unchanged, 1 rejected",
        "movies answers from version 1 (activate)",
        "movies: version 2 is a canary for 10 % of the users",
        "movies answers from version 2 (promote)",
        "movies: rolled back; 1 answers",
        "movies: version 2 is deleted",
        "movies: the domain is deleted",
    ):
        assert line in text, text
    assert all(record.exc_info is None for record in caplog.records)


def test_keys_that_change_leave_a_line_without_their_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "swaprec")
    file = KeyFile(tmp_path / "keys.json")
    keys = Keys(file, required=False, look_every_s=0.0)
    key, token = file.add("reader", "read")
    keys.caller(f"Bearer {token}")
    messages = [record.getMessage() for record in caplog.records]
    assert [f"added: ['{key.id}']" in line for line in messages] == [True]
    assert token.rpartition("_")[2] not in messages[0]


def test_a_text_of_a_client_is_one_line_of_the_log() -> None:
    assert one_line("a\nERROR forged\r\n\tb") == "a ERROR forged b"
    assert len(one_line("x" * 10_000)) < 600


def test_a_worker_that_ended_is_reported_with_its_signal_or_code() -> None:
    assert _why(-signal.SIGKILL) == "killed by SIGKILL"
    assert _why(3) == "exit code 3"


def test_the_signal_that_ends_the_service_is_named_before_it_ends(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "swaprec")
    server = LoggingServer(server_config(settings, create_app(settings)))
    # Not in the main thread, in which uvicorn would raise the signal again.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listen(settings)]})
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    server.handle_exit(signal.SIGTERM, None)
    thread.join()
    assert "SIGTERM: what was accepted is answered, then the service ends" in caplog.messages
