"""Where recommendations queue: behind the check of their key, before anything of them is parsed."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from functools import lru_cache
from urllib.parse import parse_qs

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import Admission
from service.bodies import body_of
from service.edge import answer, request_id_of
from service.errors import QueueFull
from service.parts import Parts
from service.paths import local_path
from service.problems import MEDIA_TYPE, problem_of

PATHS = frozenset(("/recommend", "/compare", "/similar", "/embed"))
_REFUSED = ((b"content-type", MEDIA_TYPE.encode()), (b"retry-after", b"1"))
_PLAIN = b"domain="
_NOT_PLAIN = re.compile(b"[&%+]")


class RefusalMiddleware:
    """Refuses recommendations that would queue too long: outermost, and as cheap as can be.

    Who sends twice what can be answered must not cost the half of it in refusals.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] in PATHS:
            parts: Parts = scope["app"].state.parts
            domain = _domain(scope["query_string"], parts)
            scope.setdefault("state", {})["queue"] = domain
            if parts.admission.is_closed(domain):
                parts.telemetry.count_refused(scope["path"])
                await _refuse(scope, send, parts.admission.waiting)
                return
        await self._app(scope, receive, send)


class AdmissionMiddleware:
    """Lets recommendations begin in turns, behind the check of their key.

    A place is taken once the body is there: who sends slowly holds none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or local_path(scope) not in PATHS:
            await self._app(scope, receive, send)
            return
        parts: Parts = scope["app"].state.parts
        admission = parts.admission
        domain = scope["state"].get("queue")
        if domain is None:
            # under a root path the outermost layer did not know the route yet
            domain = _domain(scope["query_string"], parts)
        limit, body = parts.settings.max_body_bytes, body_of(scope)
        if body is None or body.length is None or body.length <= limit:  # else it is refused before it is read
            receive = await _body_read(receive, limit)
        try:
            turn = admission.begin(domain)
            if turn is not None:
                await _wait(turn, domain, admission)
        except QueueFull as error:
            parts.telemetry.rejected.labels(error.code).inc()
            await answer(Request(scope), problem_of(error))(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            admission.end(domain)


async def _refuse(scope: Scope, send: Send, waiting: int) -> None:
    request_id = request_id_of(scope).encode()
    body = b'%b%b"}' % (_problem(waiting), request_id)
    headers = [
        *_REFUSED,
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id),
    ]
    await send({"type": "http.response.start", "status": QueueFull.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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


def _domain(query: bytes, parts: Parts) -> str:
    """Name the domain whose queue a request joins; all that do not exist share one."""
    named = query[len(_PLAIN) :].decode("latin-1")
    if not query.startswith(_PLAIN) or _NOT_PLAIN.search(query):
        named = parse_qs(query.decode("latin-1")).get("domain", [""])[-1]
    return named if parts.live.knows(named) else ""
