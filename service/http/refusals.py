"""Answers to connections that exceed a limit, before any route sees them."""

from __future__ import annotations

from service.wire.problems import Problem, problem


def refuse_connection(count: int) -> Problem:
    """Refuse a connection beyond `count`."""
    detail = f"{count} connections are open; try again in a second"
    found = problem(503, "too_many_connections", "Too many connections", detail)
    return Problem(found.status, found.body, {"Retry-After": "1"})


def refuse_line(limit: int) -> Problem:
    """Refuse an address of more than `limit` bytes."""
    return problem(
        414, "address_too_long", "Address too long", f"the address is longer than {limit} bytes"
    )


def refuse_head(limit: int) -> Problem:
    """Refuse address and headers of more than `limit` bytes together."""
    return problem(
        431,
        "headers_too_large",
        "Headers too large",
        f"address and headers take more than {limit} bytes",
    )


def refuse_fields(limit: int) -> Problem:
    """Refuse more than `limit` headers."""
    return problem(431, "headers_too_large", "Headers too large", f"more than {limit} headers")


def refuse_slow(what: str, seconds: float, expected: str) -> Problem:
    """Refuse a head or a body that comes too slowly."""
    detail = f"the {what} of the request came too slowly: expected {expected} within {seconds:g} s"
    return problem(408, "request_timeout", "Request timeout", detail)
