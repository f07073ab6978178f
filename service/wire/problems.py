"""From errors to answers: RFC 9457 problem details,
found through one table and the error's base classes.
"""

from __future__ import annotations

import http
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from adapters_store import errors as store
from adapters_store.quoting import clip
from service.errors import MalformedBody, PayloadTooLarge, ServiceError
from transrec.images import ImageError

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 51
"""The problems of a bundle are cut to fifty and the line that counts the others."""
MAX_PART = 128
MAX_MESSAGE = 1024
MAX_DETAIL = 8192
MAX_LINE = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """Status, body and headers of an answer."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class ProblemBody(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[dict[str, Any]] | None = None


def problem(
    status: int, code: str, title: str, detail: str, errors: list[dict[str, Any]] | None = None
) -> Problem:
    """Build the body that every error answer has; the request id is added on the way out."""
    shown = clip(detail, MAX_DETAIL)
    body = {
        "type": f"urn:swaprec:{code}",
        "title": title,
        "status": status,
        "detail": shown,
        "code": code,
    }
    return Problem(status, body | ({"errors": _cut(errors)} if errors else {}))


def _cut(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first errors, each with places of a bounded length:
    whoever sends a body does not size the answer.
    """
    shown = [_cut_one(error) for error in errors[:MAX_ERRORS]]
    rest = len(errors) - MAX_ERRORS
    return [*shown, {"loc": [], "msg": f"and {rest} more"}] if rest > 0 else shown


def _cut_one(error: dict[str, Any]) -> dict[str, Any]:
    loc = [_cut_part(part) for part in error.get("loc", [])]
    return error | {"loc": loc, "msg": clip(str(error.get("msg", "")), MAX_MESSAGE)}


def _cut_part(part: Any) -> Any:
    return clip(part, MAX_PART) if isinstance(part, str) else part


def problem_of(error: BaseException) -> Problem:
    """Return the problem of an error;
    what is in no table is an internal error without its inside.
    """
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _TABLE[kind](error)
    return problem(
        500,
        "internal",
        "Internal error",
        "something went wrong here; the log has it under the request id",
    )


def is_expected(error: BaseException) -> bool:
    """Whether an error has an answer of its own:
    it says all there is to say, without a traceback.
    """
    return bool(problem_of(error).body["code"] != "internal")


def one_line(text: str) -> str:
    """Return a text as one line of the log,
    shortened; what clients sent cannot begin another line.
    """
    line = " ".join(text.split())
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…"


def status_problem(status: int, detail: str) -> Problem:
    """Return the problem of a bare status, such as the router's 404."""
    for kind in (MalformedBody, PayloadTooLarge):
        if kind.status == status:
            return problem(status, kind.code, kind.title, detail)
    phrase = http.HTTPStatus(status).phrase
    return problem(status, phrase.lower().replace(" ", "_"), phrase, detail)


def _service(error: Any) -> Problem:
    found = problem(error.status, error.code, error.title, error.detail, error.errors)
    return Problem(found.status, found.body | error.more, error.headers)


def _bundle(error: Any) -> Problem:
    listed = [
        {"loc": ["file", *([one.tensor] if one.tensor else [])], "msg": one.detail, **one.to_json()}
        for one in error.problems
    ]
    detail = f"{error.count} problem{'s' if error.count != 1 else ''} with this bundle: {error}"
    return problem(422, "incompatible_bundle", "Incompatible bundle", detail, listed)


def _plain(status: int, code: str, title: str) -> Callable[[Any], Problem]:
    return lambda error: problem(status, code, title, str(error))


# A kept one: of a request it is a 422.
_TABLE: Mapping[type[BaseException], Callable[[Any], Problem]] = {
    ServiceError: _service,
    store.BundleError: _bundle,
    store.UnsupportedFormat: _plain(415, "unsupported_format", "Unsupported format"),
    store.BundleTooLarge: _plain(413, "payload_too_large", "Payload too large"),
    store.OutOfSpace: _plain(507, "out_of_space", "Insufficient storage"),
    store.InvalidName: _plain(422, "invalid_domain_name", "Invalid domain name"),
    store.InvalidId: _plain(422, "invalid_request", "Invalid request"),
    store.VersionNotFound: _plain(404, "version_not_found", "Version not found"),
    store.VersionInUse: _plain(409, "version_in_use", "Version in use"),
    store.NothingBefore: _plain(409, "conflict", "Conflict"),
    store.StoreDamaged: _plain(503, "store_damaged", "Store damaged"),
    ImageError: _plain(500, "picture_unreadable", "Picture unreadable"),
}
