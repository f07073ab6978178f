"""A service in the background: started for the demo, found again by its pid file, ended on request."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from swaprec.client import Client
from swaprec.errors import Stop

START_S = 60.0
STOP_S = 30.0
FILE = "server.json"


@dataclass(frozen=True, slots=True)
class Server:
    """A running service."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


def start(folder: Path, data: Path, backbone: Path, port: int) -> Server:
    """Start `swaprec serve` and wait until it is ready; on a busy port it takes a free one.

    Raises:
        Stop: it did not come up; its log's last lines are in the message.
    """
    server_port = port if _free(port) else _any_port()
    environment = {
        **os.environ,
        "SWAPREC_DATA": str(data),
        "SWAPREC_BACKBONES": str(backbone),
        "SWAPREC_PORT": str(server_port),
        "SWAPREC_HOST": "127.0.0.1",
    }
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "swaprec", "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process.pid, server_port)
    (folder / FILE).write_text(json.dumps(asdict(server)), "utf-8")
    with Client(server.url) as client:
        until = time.monotonic() + START_S
        while not client.ready():
            if process.poll() is not None or time.monotonic() > until:
                last = "\n".join(log.read_text("utf-8").splitlines()[-5:])
                stop(folder)
                raise Stop(f"the service did not come up:\n{last}", f"the whole log is in {log}")
            time.sleep(0.05)
    return server


def stop(folder: Path) -> bool:
    """End the service that was started from this folder; return whether there was one."""
    path = folder / FILE
    if not path.is_file():
        return False
    pid = int(json.loads(path.read_text("utf-8"))["pid"])
    path.unlink()
    if not _is_ours(pid):
        return False
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_S
    while _is_ours(pid):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return True


def _is_ours(pid: int) -> bool:
    """Whether the pid is still our server and not another process that was given its number."""
    try:
        return b"swaprec\0serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
