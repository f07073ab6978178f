"""HTTP/1.1 on a socket: uvicorn's protocol, with bounds on what a client can make the process hold,
and for how long.

Nothing here has a key yet: a bound holds for every client. What is over one is answered as a
problem, and the connection is closed without keeping more of what comes.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service.http import refusals
from service.http.limits import Limits
from service.wire.problems import MEDIA_TYPE, Problem, status_problem

MAX_PIPELINED = 16
"""Requests that wait behind one that is being answered on the same connection."""

MAX_UNREAD = 1024 * 1024
"""Bytes of a body that nobody has read yet: far more than what arrives before reading pauses."""

LINGER_S = 2.0
"""How long a refused client may go on sending,
so that it reads the answer before the connection ends.
"""

REFUSED = "refused_by_queue"
"""Key of a request's state: it was refused since too many wait (429)."""

REFUSED_PAUSE_S = 1.0
"""How long a connection is not read after that: as long as its `Retry-After` says.

Clients that ask again at once would otherwise keep the event loop busy with refusals, and everybody
waits for those. What they send meanwhile stays in the kernel; other connections are not concerned.
"""

LINGER_BYTES = 16 * 1024 * 1024


Headers = Sequence[tuple[bytes, bytes]]
RefuseEarly = Callable[[Any, bytes, Headers], bytes | None]
"""From the app, the address and the headers of a POST to a whole answer,
or None: it is served as any other.
"""


class BoundedConfig(uvicorn.Config):
    """What `uvicorn.Config` says, for the bounded protocol."""

    def __init__(
        self, app: Any, limits: Limits, refuse_early: RefuseEarly | None = None, **more: Any
    ) -> None:
        super().__init__(app, http=BoundedProtocol, ws="none", **more)
        self.limits = limits
        self.refuse_early = refuse_early


class Phase(Enum):
    """What of a request comes next."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self._refuse_early = config.refuse_early
        self._is_discarding = False
        self._phase = Phase.IDLE
        self._messages = 0
        self._since = self.loop.time()
        # Bytes that came since anything was heard of a request: of an unfinished head, of chunk
        # extensions or trailers.
        self._silent = 0
        self._chunk = 0
        self._received = 0
        self._window = (self._since, 0)
        self._unsent = (self._since, 0)
        self._refusal: Problem | None = None
        self._is_refused = False
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(self._limits.check_seconds, self._check)
        if len(self.connections) > self._limits.connections:
            self._refuse(refusals.refuse_connection(self._limits.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; an unfinished head,
        chunk extension or trailer is not kept beyond its bound.
        """
        self._chunk = len(data)
        if self._is_refused:
            self._received += len(data)
            if self._received > LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        before = self._phase, self._messages, self._received
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as any other request
        except httptools.HttpParserError:
            self._refuse(self._refusal or status_problem(400, "this is not an HTTP request"))
            return
        if before == (self._phase, self._messages, self._received):
            self._silent += len(data)
            if self._silent > self._limits.head_bytes:
                self._refuse(refusals.refuse_head(self._limits.head_bytes))

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._messages += 1
        self._received = 0
        self._enter(Phase.HEAD)

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        super().on_url(url)
        if len(self.url) > self._limits.line_bytes:
            self._raise(refusals.refuse_line(self._limits.line_bytes))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer, which comes after the body,
        is dropped: the request was admitted without it.
        """
        if self._phase is not Phase.HEAD:
            return
        super().on_header(name, value)
        if len(self.headers) > self._limits.head_fields:
            self._raise(refusals.refuse_fields(self._limits.head_fields))

    def on_headers_complete(self) -> None:
        """Start the request."""
        if self._chunk + self._silent > self._limits.head_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._limits.head_bytes:
                self._raise(refusals.refuse_head(self._limits.head_bytes))
        if len(self.pipeline) >= MAX_PIPELINED:
            self._raise(
                status_problem(400, f"more than {MAX_PIPELINED} requests wait on this connection")
            )
        self._is_discarding = self._is_refused_early()
        if not self._is_discarding:
            super().on_headers_complete()
        self._enter(Phase.BODY)

    def _is_refused_early(self) -> bool:
        """Answer a request that would queue too long,
        before anything is made for it; its body is thrown away.
        """
        if self._refuse_early is None or self._is_answering or self.pipeline:
            return False
        if self.parser.get_method() != b"POST" or not self.parser.should_keep_alive():
            return False
        answer = self._refuse_early(self.app, self.url, self.headers)
        if answer is None:
            return False
        self.transport.write(answer)
        return True

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._received += len(body)
        self._silent = 0
        if self._is_discarding:
            return
        super().on_body(body)
        if len(self.cycle.body) > MAX_UNREAD:
            self._raise(status_problem(400, "too much of a body came before anybody read it"))

    def on_message_complete(self) -> None:
        """End a request."""
        self._enter(Phase.IDLE)
        if not self._is_discarding:
            super().on_message_complete()
            return
        self._is_discarding = False
        self._keep_alive()
        self._pause()

    def on_response_complete(self) -> None:
        """End an answer; a client that was refused is not heard for a moment."""
        self._since = self.loop.time()
        is_refused = self.cycle.scope["state"].get(REFUSED, False)
        super().on_response_complete()
        if is_refused and not self.transport.is_closing():
            self._pause()

    def _keep_alive(self) -> None:
        """Wait for another request, not for ever."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _pause(self) -> None:
        self.flow.pause_reading()
        self.loop.call_later(REFUSED_PAUSE_S, self._hear_again)

    def _hear_again(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self.loop.time()
        self._window = (self._since, 0)
        self._silent = 0

    def _raise(self, refusal: Problem) -> None:
        """Stop the parser, which is in the middle of a callback."""
        self._refusal = refusal
        raise ValueError(refusal.body["detail"])

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _check(self) -> None:
        """Look at the clocks."""
        self._watch = self.loop.call_later(self._limits.check_seconds, self._check)
        now = self.loop.time()
        if self._is_stuck(now):
            self.transport.abort()
        elif self._is_refused or self.transport.is_closing():
            return
        elif self._phase is Phase.BODY and self._is_answering:
            if self._is_slow(now):
                limits = self._limits
                self._refuse(
                    refusals.refuse_slow(
                        "body",
                        limits.body_seconds,
                        f"{limits.body_bytes_per_second} bytes a second",
                    )
                )
        elif now - self._since > self._limits.head_seconds and not self._is_answering:
            self._end_silence()

    def _end_silence(self) -> None:
        """Close a connection on which no request came, or only a part of one."""
        if self._phase is Phase.HEAD:
            self._refuse(refusals.refuse_slow("head", self._limits.head_seconds, "all of it"))
        elif self._phase is Phase.BODY or self.timeout_keep_alive_task is None:
            self.transport.close()

    def _is_slow(self, now: float) -> bool:
        """Whether a client sends less of a body than it must;
        while it waits for this process it need not send.
        """
        # A chunk that announces more than the body's limit is found here, too, and not when it
        # begins: httptools calls back at a chunk's header without its size, and where the header
        # stands in the data is the parser's alone. The announced bytes cost nothing before they
        # come, and those that come are counted against the limit.
        began, received = self._window
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self._window = now, self._received
            return False
        if now - began < self._limits.body_seconds:
            return False
        self._window = now, self._received
        return self._received - received < self._limits.body_bytes_per_second * (now - began)

    def _is_stuck(self, now: float) -> bool:
        """Whether a client reads nothing of what waits for it."""
        since, before = self._unsent
        size = self.transport.get_write_buffer_size()
        if size == 0 or size < before:
            since = now
        self._unsent = since, size
        return now - since > self._limits.write_seconds

    def _refuse(self, found: Problem) -> None:
        """Answer with a problem, and end the connection;
        a request that came before is answered first.
        """
        self._is_refused = True
        self._received = 0
        cycle = self.cycle
        if not self._is_answering:
            self._write(found)
            self._linger()
        elif self._phase is Phase.BODY and not self.pipeline:
            if not cycle.response_started:
                self._write(found)
            cycle.disconnected = True
            cycle.message_event.set()
            self._linger()
        elif self._phase is Phase.BODY:
            self.transport.close()
        else:
            cycle.keep_alive = False

    def _write(self, found: Problem) -> None:
        body = json.dumps(found.body | {"request_id": uuid.uuid4().hex}).encode()
        head = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
            **found.headers,
        }
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in head.items())
        self.transport.write(STATUS_LINE[found.status] + lines + b"\r\n" + body)

    def _linger(self) -> None:
        """Close when the client has read the answer:
        at once it would be lost where more is on its way in.
        """
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
