"""What the command line says when something does not work:
what was given, what was expected, one hint.
"""

from __future__ import annotations

from typing import Any

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
REFUSED = 4
REJECTED = 5
MISSING_EXTRA = 6
INTERRUPTED = 130


class Stop(Exception):
    """End the command with a message, a hint and an exit code."""

    def __init__(self, message: str, hint: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class Unreachable(Exception):
    """No service answers at the address."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"no swaprec answers at {url}: {why}")
        self.url = url


class ProxyUnusable(Unreachable):
    """The environment names a proxy that the client cannot use."""


class ProblemError(Exception):
    """The service refused a request; the fields are its problem's."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.status: int = body.get("status", 500)
        self.code: str = body.get("code", "unknown")
        self.detail: str = body.get("detail", "")
        self.errors: list[dict[str, Any]] = body.get("errors", [])
        self.request_id: str = body.get("request_id", "")
        super().__init__(f"{self.status} {self.code}: {self.detail}")


class Malformed(ProblemError):
    """400, 415, 422: what was sent is not what is expected; `errors` lists every place."""


class Unsendable(Malformed, ValueError, TypeError):
    """An argument that the service would refuse with 422:
    refused at once, before anything is sent.
    """


class Unauthorized(ProblemError):
    """401: no key that is known there."""


class Forbidden(ProblemError):
    """403: the key may not do this."""


class NotFound(ProblemError):
    """404."""


class Conflict(ProblemError):
    """409, 412: it contradicts what is there."""


class TooLarge(ProblemError):
    """413."""


class Busy(ProblemError):
    """429, 503: try again later."""


class NoRoom(ProblemError):
    """507: nothing was changed."""


class ServerError(ProblemError):
    """Any other status from 500 on: the service's log has it under `request_id`."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: Malformed,
    415: Malformed,
    422: Malformed,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: TooLarge,
    429: Busy,
    503: Busy,
    507: NoRoom,
}


def problem_error(body: dict[str, Any]) -> ProblemError:
    """Return the error of a problem, typed by its status."""
    status = body.get("status", 500)
    fallback = ServerError if status >= 500 else ProblemError  # noqa: PLR2004 - server errors
    return _BY_STATUS.get(status, fallback)(body)
