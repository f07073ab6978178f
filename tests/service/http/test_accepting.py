from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from service.http.accepting import Acceptor, Loop

CLIENTS = 300
TURN_S = 0.05


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as found:
        yield found


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(scenario)


class Greeter(asyncio.Protocol):
    """Says hello to every client, and ends when the client does."""

    open = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        Greeter.open += 1
        transport.write(b"hello")

    def connection_lost(self, _: Exception | None) -> None:
        Greeter.open -= 1


async def leave(clients: list[socket.socket]) -> None:
    """Close all clients, and let the loop notice."""
    for client in clients:
        client.close()
    for _ in range(500):
        await asyncio.sleep(0.01)
        if not Greeter.open:
            return


def connect(listener: socket.socket) -> list[socket.socket]:
    clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
    for client in clients:
        client.settimeout(0)
    return clients


def busy() -> None:
    """Keep the loop from turning."""
    time.sleep(TURN_S)


def greeted(clients: list[socket.socket]) -> int:
    found = 0
    for client in clients:
        try:
            found += client.recv(5) == b"hello"
        except BlockingIOError:
            continue
    return found


def test_a_crowd_is_accepted_in_a_few_turns_of_a_busy_loop(listener: socket.socket) -> None:
    async def scenario() -> None:
        server = await asyncio.get_running_loop().create_server(Greeter, sock=listener)
        clients = connect(listener)
        served = turns = 0
        while served < CLIENTS and turns < CLIENTS // 3:
            busy()
            await asyncio.sleep(0.001)
            served += greeted(clients)
            turns += 1
        server.close()
        await leave(clients)
        assert served == CLIENTS

    run(scenario())


def test_an_idle_loop_accepts_one_a_turn_so_that_workers_share(listener: socket.socket) -> None:
    async def scenario() -> None:
        listener.settimeout(0)
        acceptor = Acceptor(asyncio.get_running_loop(), listener, Greeter)
        clients = connect(listener)
        acceptor._accept()
        await asyncio.sleep(0.05)
        served = greeted(clients)
        await leave(clients)
        assert served == 1

    run(scenario())


def test_a_closed_server_accepts_no_more_and_its_connections_go_on(listener: socket.socket) -> None:
    async def scenario() -> None:
        server = await asyncio.get_running_loop().create_server(Greeter, sock=listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.readexactly(5) == b"hello"
        server.close()
        await server.wait_closed()
        late = socket.create_connection(listener.getsockname())
        late.settimeout(0)
        await asyncio.sleep(0.05)
        assert greeted([late]) == 0
        assert not writer.is_closing()
        writer.close()
        await leave([late])

    run(scenario())


class Exhausted:
    """A listening socket of a process that may open no more files."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.tried = 0

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        self.tried += 1
        raise OSError(errno.EMFILE, "Too many open files")


def test_without_descriptors_it_waits_instead_of_trying_all_the_time(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        exhausted = Exhausted(listener)
        acceptor = Acceptor(asyncio.get_running_loop(), exhausted, Greeter)  # type: ignore[arg-type]
        acceptor.open()
        client = socket.create_connection(listener.getsockname())
        for _ in range(200):  # turns of the loop, in each of which the client could be accepted
            await asyncio.sleep(0)
        assert exhausted.tried == 1
        acceptor.close()
        client.close()

    run(scenario())
    assert "Too many open files" in caplog.text
