"""Where recommendations queue: behind the check of their key, before anything of them is parsed."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.admission import Admission
from service.errors import QueueFull
from service.http.bodies import body_of
from service.http.dependencies import MiddlewareComponents
from service.http.paths import QUERY_PATHS, local_path
from service.http.protocol import REFUSED, Headers
from service.http.request_middleware import answer, request_id_of
from service.wire.problems import MEDIA_TYPE, problem_of

_PLAIN = b"domain="
_NOT_PLAIN = re.compile(b"[&%+]")


def refuse_early(app: Any, address: bytes, headers: Headers) -> bytes | None:
    """Return the answer to a recommendation that would queue too long; None for everything else.

    It is as cheap as can be: when twice the peak is sent, every second request ends here.
    """
    path, _, query = address.partition(b"?")
    named = path.decode("latin-1")
    if named not in QUERY_PATHS:
        return None
    components: MiddlewareComponents = app.state.middleware
    if not components.admission.is_closed(_domain(query, components)):
        return None
    components.telemetry.count_refused(named)
    request_id = request_id_of({"headers": headers}).encode()
    body = b'%b%b"}' % (_problem(components.admission.waiting), request_id)
    return b"%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n%b" % (
        _HEAD,
        len(body),
        request_id,
        body,
    )


class AdmissionMiddleware:
    """Lets recommendations begin in turns, behind the check of their key.

    A place is taken once the body is there: who sends slowly holds none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or local_path(scope) not in QUERY_PATHS:
            await self._app(scope, receive, send)
            return
        components: MiddlewareComponents = scope["app"].state.middleware
        admission = components.admission
        domain = _domain(scope["query_string"], components)
        limit = components.max_body_bytes
        body = body_of(scope)
        # Else it is refused before it is read.
        if body is None or body.length is None or body.length <= limit:
            receive = await _body_read(receive, limit)
        try:
            turn = admission.begin(domain)
            if turn is not None:
                await _wait(turn, domain, admission)
        except QueueFull as error:
            scope["state"][REFUSED] = True
            components.telemetry.rejected.labels(error.code).inc()
            await answer(Request(scope), problem_of(error))(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            admission.end(domain)


_HEAD = (
    f"HTTP/1.1 {QueueFull.status} {QueueFull.title}\r\ncontent-type: {MEDIA_TYPE}\r\nretry-after:"
    " 1\r\n"
).encode()


@lru_cache(maxsize=4096)
def _problem(waiting: int) -> bytes:
    """Return the problem up to its last member, the request's id."""
    body = problem_of(QueueFull(waiting)).body
    return json.dumps(body)[:-1].encode() + b', "request_id": "'


async def _wait(turn: asyncio.Future[None], domain: str, admission: Admission) -> None:
    try:
        await turn
    except asyncio.CancelledError:
        if not turn.cancelled() and turn.exception() is None:  # its turn came at the same time
            admission.end(domain)
        raise


async def _body_read(receive: Receive, max_bytes: int) -> Receive:
    """Read a body, or more of it than is allowed, and return what gives it again."""
    first = await receive()
    if first.get("more_body"):
        return _again(await _more(first, receive, max_bytes), receive)
    return _again(deque((first,)), receive)


async def _more(first: Message, receive: Receive, max_bytes: int) -> deque[Message]:
    messages = deque((first,))
    size = len(first["body"])
    while messages[-1].get("more_body") and size <= max_bytes:
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
    return messages


def _again(messages: deque[Message], receive: Receive) -> Receive:
    async def again() -> Message:
        return messages.popleft() if messages else await receive()

    return again


def _domain(query: bytes, components: MiddlewareComponents) -> str:
    """Name the domain whose queue a request joins; all that do not exist share one."""
    named = query[len(_PLAIN) :].decode("latin-1")
    if not query.startswith(_PLAIN) or _NOT_PLAIN.search(query):
        named = parse_qs(query.decode("latin-1")).get("domain", [""])[-1]
    return named if components.live.has(named) else ""
