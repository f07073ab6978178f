"""The outermost layer: a request id on every answer, problems for errors, requests counted."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import DomainNotFound, MalformedBody
from service.http.dependencies import MiddlewareComponents, caller
from service.http.paths import exact_path
from service.wire.problems import MEDIA_TYPE, Problem, problem, problem_of, status_problem
from service.wire.validation import invalid_request, plain_errors

_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_log = logging.getLogger("swaprec")


class RequestMiddleware:
    """Gives each request an id (the client's, if it is a plain one), names it in the answer, and
    counts.

    `root_path` is the path under which a proxy serves the API: it may take it away or leave it, and
    an answer's `Location` begins with it. No header is trusted about it.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500
        began = False
        scope.setdefault("state", {})["request_id"] = request_id = request_id_of(scope)

        root = scope["root_path"] = self._root

        async def send_with_id(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status = message["status"]
                began = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                if root and headers.get("location", "").startswith("/"):
                    headers["Location"] = root + headers["Location"]
            await send(message)

        try:
            scope["path"] = exact_path(scope)
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            # Answered here: what goes on to the server ends the connection before its answer is
            # read.
            if began:
                raise
            request = Request(scope)
            await (await _on_any(request, error))(scope, receive, send_with_id)
        finally:
            _count(scope, status, time.perf_counter() - started)


def install_problems(app: FastAPI) -> None:
    """Answer every error, also the router's and the framework's, as a problem."""
    app.add_exception_handler(Exception, _on_any)
    app.add_exception_handler(HTTPException, _on_status)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    for kind in _handled():
        app.add_exception_handler(kind, _on_any)


def _handled() -> tuple[type[Exception], ...]:
    # Named, so that the framework answers them inside the middleware and does not log them as
    # crashes.
    from adapters_store.errors import StoreError
    from service.errors import ServiceError

    return ServiceError, StoreError


async def _on_any(request: Request, error: Exception) -> Response:
    if isinstance(error, DomainNotFound) and (
        lost := request.app.state.middleware.lost.error(error.name)
    ):
        error = lost
    elif isinstance(error, DomainNotFound):
        error = DomainNotFound(error.name, filter(caller(request).covers, error.existing))
    found = problem_of(error)
    if found.status >= 500 and found.body["code"] == "internal":  # noqa: PLR2004 - server errors
        _log.error("request %s failed", request.state.request_id, exc_info=error)
    return answer(request, found)


async def _on_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it was registered for
    found = status_problem(error.status_code, str(error.detail))
    return answer(request, Problem(found.status, found.body, dict(error.headers or {})))


async def _on_disconnect(request: Request, _: Exception) -> Response:
    # Nobody reads this; it keeps a client that left in the middle of its body out of the log and of
    # the 5xx counts.
    return answer(
        request, problem(400, "client_gone", "Client gone", "the body ended before it was complete")
    )


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it was registered for
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return answer(request, problem_of(MalformedBody("the body is not JSON")))
    return answer(request, problem_of(invalid_request(plain_errors(found, None))))


def answer(request: Request, found: Problem) -> Response:
    """Make the answer of a problem, with the request's id."""
    request_id = request.state.request_id
    body = json.dumps(found.body | {"request_id": request_id}).encode()
    return Response(body, found.status, {**found.headers, "X-Request-Id": request_id}, MEDIA_TYPE)


def request_id_of(scope: Scope) -> str:
    """Return the client's id of a request if it is a plain one, else a new one."""
    text = header(scope, b"x-request-id")
    return text if text is not None and _SANE.fullmatch(text) else uuid.uuid4().hex


def header(scope: Scope, wanted: bytes) -> str | None:
    """Return the first header of a name (in lower case)."""
    for name, value in scope["headers"]:
        if name == wanted:
            text: str = value.decode("latin-1")
            return text
    return None


def _count(scope: Scope, status: int, seconds: float) -> None:
    components: MiddlewareComponents | None = (
        getattr(scope["app"].state, "middleware", None) if "app" in scope else None
    )
    if components is None:
        return
    route = getattr(scope.get("route"), "path", "unmatched")
    domain = scope["state"].get("domain", "")
    components.telemetry.requests.labels(route, domain, str(status)).inc()
    components.telemetry.seconds.labels(route).observe(seconds)
