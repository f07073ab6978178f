"""A service in the background: started for the demo,
found again by its pid file, ended on request.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
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
    began: int = 0
    """When the process began, in the kernel's ticks: with the pid, what no other process has."""

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
    pid = _spawn([sys.executable, "-m", "swaprec", "serve"], environment, log)
    server = Server(pid, server_port, _began(pid))
    (folder / FILE).write_text(json.dumps(asdict(server)), "utf-8")
    with Client(server.url) as client:
        until = time.monotonic() + START_S
        while not client.ready():
            if not _is_ours(server) or time.monotonic() > until:
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
    server = _noted(path)
    if server is None or not _is_ours(server):
        path.unlink()
        return False
    os.kill(server.pid, signal.SIGTERM)
    until = time.monotonic() + STOP_S
    while _is_ours(server):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(server.pid, os.WNOHANG)
        if time.monotonic() > until:
            os.kill(server.pid, signal.SIGKILL)
        time.sleep(0.05)
    path.unlink()
    return True


def _spawn(command: list[str], environment: dict[str, str], log: Path) -> int:
    """Start a process that outlives this one and its terminal; what it says goes to the log."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], command, environment, file_actions=files, setsid=True)


def _noted(path: Path) -> Server | None:
    """What was written down, or None if that was cut short."""
    try:
        return Server(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError):
        return None


def _is_ours(server: Server) -> bool:
    """Whether the process still runs, and is not another one that was given its number."""
    return server.began != 0 and _began(server.pid) == server.began


def _began(pid: int) -> int:
    """When a process began (`man 5 proc`:
    starttime), 0 if it is gone or only waits to be reaped.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


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
