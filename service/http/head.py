"""HEAD: what GET answers, without its body."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.routing import APIRoute


def answer_head(router: APIRouter) -> APIRouter:
    """Add HEAD to every GET of a router;
    the server leaves the body out, and the document does not list it.
    """
    found = [
        route
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    ]
    for route in found:
        router.add_api_route(
            route.path.removeprefix(router.prefix),
            route.endpoint,
            methods=["HEAD"],
            include_in_schema=False,
            response_class=route.response_class,
            response_model=None,
        )
    return router
