"""Accepting connections: as many in a turn of the event loop as came while the last one lasted.

libuv accepts one connection a turn. Under load a turn lasts a tenth of a second, so that a thousand
clients, and the probe of an orchestrator behind them, would wait for minutes to be heard at all. An
idle process still accepts one a turn, so that workers that share a socket share its connections.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvloop

MAX_ACCEPTS = 64
"""Connections accepted in one turn, at most."""

SECONDS_AN_ACCEPT = 0.001
"""How much longer a turn must last for one more connection to be accepted in the next."""

PAUSE_S = 0.5
"""How long nothing is accepted after the system refused to open another connection."""

_log = logging.getLogger("swaprec")

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Loop(uvloop.Loop):
    """uvloop's event loop, with `Acceptor` in place
    of its own listening for sockets that are given.
    """

    async def create_server(
        self,
        protocol_factory: ProtocolFactory,
        *args: Any,
        sock: socket.socket | None = None,
        **more: Any,
    ) -> Any:
        """Serve a socket that is bound already; anything else is served as uvloop does."""
        if sock is None or more.get("ssl") is not None:
            return await super().create_server(protocol_factory, *args, sock=sock, **more)
        sock.listen(more.get("backlog", socket.SOMAXCONN))
        sock.settimeout(0)
        acceptor = Acceptor(self, sock, protocol_factory)
        acceptor.open()
        return acceptor


class Acceptor:
    """Accepts the connections of one listening socket until it is closed.

    Args:
        loop: that serves them.
        listener: bound, listening, not blocking; whoever made it closes it.
        make_protocol: called for each connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make_protocol: ProtocolFactory,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._make_protocol = make_protocol
        self._beginning: set[asyncio.Task[None]] = set()
        self._looked_at = 0.0
        self._more_wait = False
        self._is_closed = False

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket."""
        return (self._listener,)

    def open(self) -> None:
        """Begin to accept, or go on."""
        if not self._is_closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more; connections go on."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listener.fileno())

    async def wait_closed(self) -> None:
        """Return at once: who closes an acceptor has nothing to wait for."""

    def _accept(self) -> None:
        allowed = self._allow()
        for _ in range(allowed):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._more_wait = False
                return
            except OSError as error:
                self._pause(error)
                return
            connection.settimeout(0)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)
        self._more_wait = True

    def _allow(self) -> int:
        """Return how many to accept: by the length of the last turn,
        if connections were left waiting in it.
        """
        now = self._loop.time()
        lasted = now - self._looked_at if self._more_wait else 0.0
        self._looked_at = now
        return min(MAX_ACCEPTS, 1 + int(lasted / SECONDS_AN_ACCEPT))

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            # the client left before it was served
            connection.close()

    def _pause(self, error: OSError) -> None:
        """Wait where no descriptor or memory is left:
        the socket stays readable, and would be tried without end.
        """
        _log.warning("no connection can be accepted for %s s: %s", PAUSE_S, error.strerror)
        self._more_wait = False
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(PAUSE_S, self.open)
