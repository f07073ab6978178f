"""A client that does what it should not, and what the service is while it does."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx

from tests.service.conftest import wait_until

MIB = 1024 * 1024
RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class StrangerAnswer:
    """What came back; the status is 0 where the connection was closed without a word."""

    status: int
    body: bytes
    sent: int
    closed: bool

    @property
    def code(self) -> str:
        """The problem's code."""
        return str(json.loads(self.body)["code"])


@dataclass
class StrangerService:
    """A process that serves, seen from outside."""

    port: int
    pid: int
    data: Path
    peak: int = 0
    worst: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self, name: str = "VmRSS") -> int:
        """Bytes of memory that the process has, or had at most (`VmHWM`)."""
        lines = Path(f"/proc/{self.pid}/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Knock all the time; note how long it took at most, and by how much the memory grew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", "ascii")
        before = self.memory()
        begun = threading.Event()
        ended = threading.Event()
        self.worst = 0.0
        self.errors.clear()
        thread = threading.Thread(target=self._knock, args=(begun, ended))
        thread.start()
        assert begun.wait(60), "it does not answer"
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.peak = self.memory("VmHWM") - before

    @contextmanager
    def bounded(
        self, max_growth: int, max_silence_s: float, tolerated: str | None = None
    ) -> Iterator[None]:
        """Whatever the block does, others are answered in time,
        the memory is bounded, and nothing is left.
        """
        with self.watched():
            yield
        assert self.peak < max_growth
        assert self.worst < max_silence_s
        assert [text for text in self.errors if tolerated is None or tolerated not in text] == []
        wait_until(lambda: self.left() == [])

    def _knock(self, begun: threading.Event, ended: threading.Event) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not ended.wait(RETRY_S):
                began = time.perf_counter()
                self._ask(client)
                self.worst = max(self.worst, time.perf_counter() - began)
                begun.set()

    def _ask(self, client: httpx.Client) -> None:
        with suppress(httpx.RemoteProtocolError):  # an idle connection that was just closed
            answer = client.get("/livez")
            if answer.status_code != 200:
                self.errors.append(answer.text)

    def left(self) -> list[str]:
        """Files that nobody will look at again."""
        imports = [path.name for path in (self.data / "imports").iterdir()]
        return imports + [path.name for path in (self.data / "adapters").rglob("*.part")]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, parts: Iterable[bytes], pause: float = 0.0) -> StrangerAnswer:
        """Send until all is sent or an answer comes,
        then read it to the end of the connection or of the answer.
        """
        with self.connect() as connection:
            sent = 0
            try:
                for part in parts:
                    sent += _push(connection, part)
                    if select.select([connection], [], [], pause)[0]:
                        break
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read(connection, sent)


def _push(connection: socket.socket, part: bytes) -> int:
    """Send what the other side takes, until it answers."""
    view = memoryview(part)
    sent = 0
    while sent < len(part):
        readable, writable, _ = select.select([connection], [connection], [], 30)
        assert readable or writable, "it neither reads nor answers"
        if readable:
            break
        sent += connection.send(view[sent : sent + 65536])
    return sent


def read(connection: socket.socket, sent: int = 0) -> StrangerAnswer:
    """Read one answer."""
    content = b""
    with suppress(ConnectionResetError):
        while not _is_whole(content):
            part = connection.recv(65536)
            if not part:
                break
            content += part
    head, _, body = content.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return StrangerAnswer(status, body, sent, not head or b"connection: close" in head.lower())


def _is_whole(content: bytes) -> bool:
    head, ends, body = content.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1]
        for line in head.lower().splitlines()
        if line.startswith(b"content-length")
    ]
    return bool(ends and lengths) and len(body) >= int(lengths[0])


def head(method: str, path: str, *lines: str) -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")


def whole(method: str, path: str, body: bytes, kind: str = "application/json") -> list[bytes]:
    """A request with a body."""
    return [head(method, path, f"Content-Type: {kind}", f"Content-Length: {len(body)}"), body]


def chunks(part: bytes, count: int) -> Iterator[bytes]:
    """The chunks of a body that does not say how long it is."""
    yield from repeat(b"%x\r\n%s\r\n" % (len(part), part), count)
    yield b"0\r\n\r\n"


def as_json(answer: StrangerAnswer) -> Any:
    return json.loads(answer.body)
