"""Dependencies of routes and middleware."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from service.access.admission import Admission
from service.access.keys import Key, Keys
from service.live.table import LiveTable
from service.state.known import LostDomains
from service.telemetry import Telemetry

CHECK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class MiddlewareComponents:
    """Components that the middleware and checks of keys use."""

    keys: Keys
    admission: Admission
    live: LiveTable
    lost: LostDomains
    telemetry: Telemetry
    max_body_bytes: int


def from_app(name: str) -> Any:
    """Return the dependency on what `components.provide` gave the app under a name."""

    # Async: a plain function would cost a thread at every request.
    async def find(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(find)


def caller(request: Request) -> Key:
    """Return whose key the request came with."""
    key: Key = request.state.key
    return key


async def _caller(request: Request) -> Key:
    return caller(request)


Caller = Annotated[Key, Depends(_caller)]


def key_check(request: Request) -> Callable[[], None]:
    """Return what checks the key of a request again, while it goes on."""
    components: MiddlewareComponents = request.app.state.middleware
    authorization = request.headers.get("authorization")
    before = caller(request)
    return lambda: components.keys.check_again(authorization, before)


async def stream(request: Request) -> AsyncIterator[bytes]:
    """Yield the chunks of a body; its key is checked again every second.

    Raises:
        KeyInvalid, ScopeDenied: the key was revoked meanwhile, or may do less.
    """
    check = key_check(request)
    checked = time.monotonic()
    async for chunk in request.stream():
        if time.monotonic() - checked > CHECK_EVERY_S:
            check()
            checked = time.monotonic()
        if chunk:
            yield chunk
