"""An open loop of requests: sent when they are due,
whether or not the ones before were answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import uvloop

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Latencies:
    """Seconds from when each request was due to its answer,
    what failed, and how much of that was refused with 429.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    refused: int = 0
    retried: int = 0

    def at(self, percent: float) -> float:
        """Return a percentile."""
        return float(np.percentile(self.seconds, percent)) if self.seconds else float("nan")


def send(
    port: int, requests: Sequence[bytes], rate: float, going: Callable[[], bool], connections: int
) -> Latencies:
    """Send requests at a rate a second over so many connections at most, as long as `going`.

    One whose connection breaks is sent once more, over a new one.
    """
    return uvloop.run(_send(port, requests, rate, going, connections))


async def _send(
    port: int, requests: Sequence[bytes], rate: float, going: Callable[[], bool], connections: int
) -> Latencies:
    free: asyncio.Queue[Streams] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    seen = Latencies()
    running = set[asyncio.Task[None]]()
    number = 0
    started = time.perf_counter()
    while going():
        due = started + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(_one(port, free, requests[number % len(requests)], due, seen))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
    await asyncio.gather(*running)
    while not free.empty():
        free.get_nowait()[1].close()
    return seen


async def _one(
    port: int, free: asyncio.Queue[Streams], request: bytes, due: float, seen: Latencies
) -> None:
    link = await free.get()
    try:
        status, _ = await ask(link, request)
    except (OSError, asyncio.IncompleteReadError):
        seen.retried += 1
        link = await asyncio.open_connection("127.0.0.1", port)
        status, _ = await ask(link, request)
    finally:
        free.put_nowait(link)
    if status == b"200":
        seen.seconds.append(time.perf_counter() - due)
    else:
        seen.failed += 1
        seen.refused += status == b"429"


async def ask(link: Streams, request: bytes) -> tuple[bytes, bytes]:
    """Send one request; return status and body of the answer."""
    reader, writer = link
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return head[9:12], await reader.readexactly(int(length))
