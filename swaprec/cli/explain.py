"""From any error to exit code, message and one hint:
nobody sees a traceback who did not ask for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swaprec.errors import (
    FAILED,
    MISSING_EXTRA,
    REFUSED,
    UNREACHABLE,
    USAGE,
    ProblemError,
    ProxyUnusable,
    Stop,
    Unreachable,
)

HINTS = {
    "domain_not_found": "swaprec push RUN --catalog --create makes the run's domain",
    "incompatible_bundle": "train it on the backbone that the domain runs, or send it again",
    "queue_full": "wait a second",
    "domain_loading": "wait until GET /readyz answers 200",
    "state_unavailable": "the service's Redis does not answer; once it does, send it again",
    "state_lost": (
        "bring back the Redis that the service wrote to; docs/configuration.md, State in Redis"
    ),
    "out_of_space": "make room in the service's data folder, or in its Redis; nothing was changed",
    "unauthorized": (
        "--key or SWAPREC_KEY names a key; on the service's machine swaprec keys add makes one"
    ),
    "forbidden": "swaprec keys add --scope … makes a key that may",
    "internal": "the service's log has it",
}
"""What to do about what the service refuses,
by the problem's code, where its detail does not say.
"""

_OURS = ("training.", "transrec.", "service.", "adapters_store.")

Explained = tuple[int, str, str]


def explained(error: Exception) -> Explained:
    """Return exit code, message and hint of an error."""
    for kind, explain in _KINDS.items():
        # By name: the error's class may lie in a module that is slow to load and was not.
        if any(kind in (one, one.__name__) for one in type(error).__mro__):
            return explain(error)
    if isinstance(error, OSError) or type(error).__module__.startswith(_OURS):
        return FAILED, str(error) or type(error).__name__, ""
    return FAILED, f"{type(error).__name__}: {error}", "SWAPREC_DEBUG=1 shows where"


def _problem(error: Any) -> Explained:
    listed = [f"\n  {_line(one)}" for one in error.errors if one.get("msg") != error.detail]
    return REFUSED, str(error) + "".join(listed), HINTS.get(error.code, "")


def _line(one: dict[str, Any]) -> str:
    """Return an error of a list; its message mostly begins with the place."""
    place = ".".join(map(str, one.get("loc", [])))
    message = str(one.get("msg", ""))
    return message if not place or message.startswith(str(one["loc"][0])) else f"{place}: {message}"


def _with(code: int, hint: str) -> Callable[[Any], Explained]:
    return lambda error: (code, str(error), hint)


_KINDS: dict[type[Exception] | str, Callable[[Any], Explained]] = {
    Stop: lambda error: (error.code, str(error), error.hint),
    ProxyUnusable: _with(USAGE, ""),
    Unreachable: _with(
        UNREACHABLE, "swaprec serve starts one; --url or SWAPREC_URL says where it is"
    ),
    ProblemError: _problem,
    ModuleNotFoundError: _with(
        MISSING_EXTRA, "pip install 'swaprec[serve,train]' brings every package"
    ),
    "ConfigError": _with(USAGE, "docs/training.md lists every key of a run's file"),
    "InvalidSettings": _with(USAGE, "docs/configuration.md lists every setting"),
    "Exposed": _with(USAGE, ""),
    "KeyNotFound": _with(USAGE, "swaprec keys list shows them"),
}
