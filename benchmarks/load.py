"""A closed-loop HTTP/1.1 load on the loopback:
prebuilt requests, keep-alive, counted answers, bounded in time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.processes import family


@dataclass(frozen=True, slots=True)
class Load:
    """What one run saw: requests answered 200,
    others, seconds of wall time, server CPU-seconds used.
    """

    answered: int
    failed: int
    seconds: float
    cpu_seconds: float

    @property
    def per_cpu_second(self) -> float:
        """Answers per CPU-second of the server."""
        return self.answered / self.cpu_seconds


def request_bytes(path: str, body: bytes) -> bytes:
    """Build one POST with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type:"
        f" application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all that it started and that runs now, from /proc."""
    lines = (
        Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in family(pid)
    )
    return sum(int(fields[11]) + int(fields[12]) for fields in lines) / os.sysconf("SC_CLK_TCK")


def drive(
    pid: int, port: int, requests: Sequence[bytes], *, connections: int, seconds: float
) -> Load:
    """Send the requests round and round over some
    connections for a while; the server is process `pid`.
    """
    before = cpu_seconds(pid)
    start = time.monotonic()
    counts = uvloop.run(_drive(port, requests, connections, seconds))
    elapsed = time.monotonic() - start
    used = cpu_seconds(pid) - before
    return Load(sum(good for good, _ in counts), sum(bad for _, bad in counts), elapsed, used)


async def _drive(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> list[tuple[int, int]]:
    until = time.monotonic() + seconds
    return await asyncio.gather(
        *(_connection(port, requests[number::connections], until) for number in range(connections))
    )


async def _connection(port: int, requests: Sequence[bytes], until: float) -> tuple[int, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    good = bad = 0
    while time.monotonic() < until:
        for request in requests:
            writer.write(request)
            status = await _answer(reader)
            good, bad = (good + 1, bad) if status == b"200" else (good, bad + 1)
            if time.monotonic() >= until:
                break
    writer.close()
    await writer.wait_closed()
    return good, bad


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return head[9:12]
