from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from swaprec import background
from swaprec.client import Client
from swaprec.errors import Stop
from tests.swaprec.conftest import World


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    background.stop(tmp_path)


def any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_started_service_answers_until_it_is_stopped_from_its_folder(
    folder: Path, world: World
) -> None:
    wanted = any_port()
    server = background.start(folder, folder / "data", world.backbone, wanted)
    assert server.port == wanted
    with Client(server.url) as client:
        assert client.ready()
        assert background.stop(folder)
        assert not client.ready()
    assert not (folder / background.FILE).exists()
    assert not background.stop(folder)


def test_a_taken_port_gives_way_to_a_free_one(folder: Path, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        server = background.start(folder, folder / "data", world.backbone, taken)
        assert server.port != taken


def test_a_service_that_does_not_come_up_leaves_its_reason_and_no_process(folder: Path) -> None:
    with pytest.raises(Stop, match="nowhere") as caught:
        background.start(folder, folder / "data", folder / "nowhere", any_port())
    assert str(folder / "server.log") in caught.value.hint
    assert not (folder / background.FILE).exists()


def test_a_process_that_began_at_another_time_is_left_alone(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        server = background.Server(process.pid, 1, background._began(process.pid))
        assert server.began > 0
        (folder / background.FILE).write_text(
            json.dumps(asdict(replace(server, began=server.began - 1))), "utf-8"
        )
        assert not background.stop(folder)
        time.sleep(0.1)
        assert process.poll() is None
        process.communicate(b"\n")


@pytest.mark.parametrize("noted", ["", '{"pid": ', "[]", '{"pid": 1}', '{"pid": 1, "port": 1}'])
def test_a_torn_note_is_no_service_and_is_swept(folder: Path, noted: str) -> None:
    (folder / background.FILE).write_text(noted, "utf-8")
    assert not background.stop(folder)
    assert not (folder / background.FILE).exists()


def test_a_process_that_died_has_no_beginning() -> None:
    assert background._began(os.getpid()) > 0
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert background._began(process.pid) == 0
