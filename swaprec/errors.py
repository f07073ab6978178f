"""What the command line says when something does not work: what was given, what was expected, one hint."""

from __future__ import annotations

from typing import Any

OK, FAILED, USAGE, UNREACHABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


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


class ProblemError(Exception):
    """The service refused a request; the fields are its problem's."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.status: int = body.get("status", 500)
        self.code: str = body.get("code", "unknown")
        self.detail: str = body.get("detail", "")
        self.errors: list[dict[str, Any]] = body.get("errors", [])
        self.request_id: str = body.get("request_id", "")
        super().__init__(f"{self.status} {self.code}: {self.detail}")
