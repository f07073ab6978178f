"""Bodies: read within their limits, what all requests together keep of them in memory,
and what becomes of one that is not read to its end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import AtCapacity, PayloadTooLarge

UNCOUNTED_BYTES = 64 * 1024
"""What a request may keep without being counted: no more than the server reads ahead anyway."""

MAX_DISCARDED = 256 * 1024
"""What the server reads and throws away of a body that was refused,
so that its connection can be kept.
"""

_CARE = frozenset((b"transfer-encoding", b"content-encoding", b"expect"))
"""Headers of a body that is longer in memory than it says, or does not come by itself."""

LINGER_BYTES = 16 * 1024 * 1024
LINGER_S = 2.0
MAX_CONCURRENT_BODIES = 8


class BodyBudget:
    """Bytes of bodies in memory, of all requests of this process; used on the event loop only."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def take(self, count: int) -> None:
        """Count more bytes.

        Raises:
            AtCapacity: they are too many, beside what others keep.
        """
        if self.used + count > self.total:
            raise AtCapacity(
                f"bodies of {self.used} bytes are in memory already, at most {self.total} are kept"
            )
        self.used += count

    def give_back(self, count: int) -> None:
        """Count what is kept no longer."""
        self.used -= count


class ReceivedBody:
    """The body of one request: how long it says it is,
    what came of it, and what of it is kept in memory.
    """

    def __init__(
        self, budget: BodyBudget, receive: Receive, length: int | None, *, expects: bool
    ) -> None:
        self.length = length
        self.kept = 0
        self._budget = budget
        self._receive = receive
        # A client that waits for `100 Continue` sends nothing before somebody reads.
        self._is_waiting = expects
        self._received = 0
        self._is_complete = length == 0

    async def receive(self) -> Message:
        """Receive the next part."""
        self._is_waiting = False
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
        else:
            self._is_complete = True
        return message

    def keep(self, size: int) -> None:
        """Count a body of which `size` bytes are in memory.

        Raises:
            AtCapacity: too many are, of all requests.
        """
        if size > UNCOUNTED_BYTES:
            self._budget.take(size - self.kept)
            self.kept = size

    def close(self) -> None:
        """Count it no longer."""
        self._budget.give_back(self.kept)
        self.kept = 0

    @property
    def is_long(self) -> bool:
        """Whether so much has not come yet, or may, that the connection is not worth keeping."""
        if self._is_complete:
            return False
        return (
            self._is_waiting or self.length is None or self.length - self._received > MAX_DISCARDED
        )

    async def discard(self) -> None:
        """Throw away what a client goes on sending for a while:
        it reads the answer when it is done, or has enough.
        """
        until = self._received + LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self._is_complete and self._received < until:
                    await self.receive()


class BodyMiddleware:
    """Ends the connection of a body that is refused,
    after the answer; counts the bodies that are kept in memory.
    """

    def __init__(self, app: ASGIApp, budget: BodyBudget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = self._body(scope, receive) if scope["type"] == "http" else None
        if body is None:
            await self._app(scope, receive, send)
            return

        async def send_and_end(message: Message) -> None:
            if body.is_long:
                await _send_early(body, send, message)
            else:
                await send(message)

        scope.setdefault("state", {})["body"] = body
        try:
            await self._app(scope, body.receive, send_and_end)
        finally:
            body.close()

    def _body(self, scope: Scope, receive: Receive) -> ReceivedBody | None:
        """Return the body of a request; None where it has none, or one that needs no looking after.

        A short body of a known length is no more than the server reads ahead anyway, unless it
        grows when decoded.
        """
        length = None
        found = set()
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value)
            elif name in _CARE:
                found.add(name)
        has_body = bool(length) or b"transfer-encoding" in found
        if not has_body or (length is not None and length <= UNCOUNTED_BYTES and not found):
            return None
        return ReceivedBody(self._budget, receive, length, expects=b"expect" in found)


async def _send_early(body: ReceivedBody, send: Send, message: Message) -> None:
    """Send a part of an answer while its request is still on its way."""
    if message["type"] == "http.response.start":
        MutableHeaders(scope=message)["Connection"] = "close"
    if message["type"] != "http.response.body" or message.get("more_body", False):
        await send(message)
        return
    # The last part ends the connection, so it waits, empty, until the client has had the time to
    # read the answer.
    await send({**message, "more_body": True})
    await body.discard()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Receiving:
    """Bodies that are written to the disk while they come: a few at once of each key and domain."""

    def __init__(self, at_once: int = MAX_CONCURRENT_BODIES) -> None:
        self._at_once = at_once
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one_of(self, name: str) -> Iterator[None]:
        """Count one until the block ends.

        Raises:
            AtCapacity: as many of this name are on their way already.
        """
        if self._counts[name] >= self._at_once:
            raise AtCapacity(f"{self._at_once} uploads of {name} are on their way already")
        self._counts[name] += 1
        try:
            yield
        finally:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]


def refuse_long(request: Request, limit: int) -> None:
    """Refuse a body by the length that it says it has, before anything of it is read.

    Raises:
        PayloadTooLarge: more than `limit` bytes.
    """
    body = body_of(request.scope)
    if body is not None and body.length is not None and body.length > limit:
        raise PayloadTooLarge(f"{body.length} bytes: more than {limit} bytes are not read here")


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body that must fit in memory; the limit holds whatever its headers claim.

    Raises:
        PayloadTooLarge: more than `limit` bytes; AtCapacity: the bodies of all requests take too
            much memory.
    """
    refuse_long(request, limit)
    given = body_of(request.scope)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PayloadTooLarge(f"more than {limit} bytes")
        if given is not None:
            given.keep(len(body))
    return bytes(body)


def body_of(scope: Scope) -> ReceivedBody | None:
    """Return the body of a request, None where it has none or the app stands alone."""
    found: ReceivedBody | None = scope["state"].get("body")
    return found
