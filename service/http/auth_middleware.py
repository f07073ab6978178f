"""Who may do what over HTTP: the table of scopes, applied before a body is read."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.keys import ANYONE, Key
from service.access.keys import Scope as Level
from service.errors import KeyInvalid, ScopeDenied
from service.http.paths import QUERY_PATHS, local_path
from service.http.request_middleware import answer, header
from service.wire.problems import problem_of

_OPEN_PATHS = ("/livez", "/readyz", "/openapi.json")
_PAGE_PREFIXES = ("/docs", "/redoc", "/static-offline-docs/")
_GLOBAL_PATHS = ("/metrics", "/info")
_DOMAIN = re.compile("/domains/[^/]+/?")
_EVALUATES = re.compile("/domains/[^/]+/evaluate/?")
_IN_PATH = re.compile("/(?:domains|adapters)/([^/]+)")


class AuthMiddleware:
    """Lets a request pass whose key has the scope that its method and path need, for the domain
    that they name.

    What the path does not tell (the domain of a bundle or of a job) the route checks with
    `state.key`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it before its body is read."""
        if scope["type"] == "http":
            try:
                scope["state"]["key"] = _admitted(scope)
            except (KeyInvalid, ScopeDenied) as error:
                scope["app"].state.middleware.telemetry.rejected.labels(error.code).inc()
                await answer(Request(scope), problem_of(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _admitted(scope: Scope) -> Key:
    path = local_path(scope)
    method = scope["method"]
    if is_open(path):
        return ANYONE
    key: Key = scope["app"].state.middleware.keys.caller(header(scope, b"authorization"))
    if key is ANYONE:
        return key
    key.check(needed(method, path))
    if key.domains:
        for domain in _domains(path, scope["query_string"]):
            key.check("read", domain)
        if path in _GLOBAL_PATHS:
            raise ScopeDenied(
                f"{path} tells of every domain; key {key.name!r} is for {', '.join(key.domains)}"
            )
    return key


def is_open(path: str) -> bool:
    """Whether a path answers without a key: probes and the API's description."""
    return path in _OPEN_PATHS or path.startswith(_PAGE_PREFIXES)


def needed(method: str, path: str) -> Level:
    """Return the scope that a request needs."""
    if method in ("GET", "HEAD") or (
        method == "POST" and (path in QUERY_PATHS or _EVALUATES.fullmatch(path))
    ):
        return "read"
    return "admin" if _DOMAIN.fullmatch(path) else "write"


def _domains(path: str, query: bytes) -> list[str]:
    found = _IN_PATH.match(path)
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("domain", [])
    return [*asked, *([found[1]] if found else [])]
