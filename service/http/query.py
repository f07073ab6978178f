"""Query parameters: one that a route does not know is refused,
so that a misspelled one is not ignored.
"""

from __future__ import annotations

from difflib import get_close_matches

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from adapters_store.quoting import listed, quote
from service.wire.validation import invalid_request


async def check_query(request: Request) -> None:
    """Check the names of a request's query parameters; a dependency of every route.

    Raises:
        InvalidRequest: with every name that the route does not know, and those that it does.
    """
    if not request.scope["query_string"]:
        return
    route: APIRoute = request.scope["route"]
    known = _names(route.dependant)
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        errors = [{"loc": ["query", name], "msg": _message(name, known)} for name in unknown]
        raise invalid_request(errors)


def _names(dependant: Dependant) -> list[str]:
    """Name the query parameters of a route or a dependency,
    those of its own dependencies included.
    """
    inner = [name for one in dependant.dependencies for name in _names(one)]
    return [*(one.alias for one in dependant.query_params), *inner]


def _message(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    expected = (
        f"did you mean {near[0]}?"
        if near
        else f"expected {listed(known)}"
        if known
        else "expected none"
    )
    return f"{quote(name)} is no parameter here: {expected}"
