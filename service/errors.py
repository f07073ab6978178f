"""Everything the service refuses, as plain errors;
`wire/problems.py` turns them into answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from adapters_store.quoting import listed, quote

MAX_NAMED = 20
"""Domains that an error names."""


class ServiceError(Exception):
    """A request that cannot be answered.

    Subclasses fix status, code and title; `errors` lists places and reasons, `more` are further
    members of the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        self.headers = dict(headers or {})
        self.more: dict[str, Any] = {}


class MalformedBody(ServiceError):
    """A body that is not JSON, or no multipart form."""

    status = 400
    code = "malformed_body"
    title = "Malformed body"


class MalformedPath(ServiceError):
    """A path that is not UTF-8 in percent-encoding."""

    status = 400
    code = "malformed_path"
    title = "Malformed path"


class KeyInvalid(ServiceError):
    """A request without a key that is known."""

    status = 401
    code = "unauthorized"
    title = "Unauthorized"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class ScopeDenied(ServiceError):
    """A key that may not do this."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


class DomainNotFound(ServiceError):
    """A domain that does not exist."""

    status = 404
    code = "domain_not_found"
    title = "Domain not found"

    def __init__(self, name: str, existing: Iterable[str]) -> None:
        self.name = name
        self.existing = tuple(existing)
        there = (
            listed(sorted(self.existing), MAX_NAMED) or "none yet: PUT /domains/{name} makes one"
        )
        super().__init__(f"domain {quote(name)} does not exist; there is {there}")


class ItemNotFound(ServiceError):
    """An item that the catalog lacks."""

    status = 404
    code = "item_not_found"
    title = "Item not found"


class JobNotFound(ServiceError):
    """A job that does not exist."""

    status = 404
    code = "job_not_found"
    title = "Job not found"


class RequestConflict(ServiceError):
    """A request that contradicts what is there."""

    status = 409
    code = "conflict"
    title = "Conflict"


class JobTaken(ServiceError):
    """A claim on a job that is over: what its holder writes is refused."""

    status = 409
    code = "job_taken"
    title = "Job taken"

    def __init__(self, job_id: str, token: int) -> None:
        super().__init__(
            f"job {job_id!r} is no longer held with token {token}: it was claimed again, given back"
            " or has ended; leave it alone"
        )


class GateFailed(ServiceError):
    """A version that misses a threshold on the domain's probes; `figures` has what was seen."""

    status = 412
    code = "gate_failed"
    title = "Gate failed"

    def __init__(
        self, detail: str, errors: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]
    ) -> None:
        super().__init__(detail, errors)
        self.more = {"figures": dict(figures)}


class VerificationFailed(ServiceError):
    """A version that must not go live: its vectors, its index or its user side are not sound."""

    status = 422
    code = "verification_failed"
    title = "Verification failed"


class VersionNotServable(ServiceError):
    """A version that has no vectors in memory:
    another version's space is never searched in its place.
    """

    status = 409
    code = "version_not_servable"
    title = "Version not servable"


class PayloadTooLarge(ServiceError):
    """A body over the limit."""

    status = 413
    code = "payload_too_large"
    title = "Payload too large"


class UnsupportedMedia(ServiceError):
    """A content type that this route does not read."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class InvalidRequest(ServiceError):
    """Values that are not what the route expects; every one of them is listed."""

    status = 422
    code = "invalid_request"
    title = "Invalid request"


class BackboneNotFound(ServiceError):
    """A backbone that this service has not loaded."""

    status = 422
    code = "backbone_not_found"
    title = "Backbone not found"


class QueueFull(ServiceError):
    """More recommendations wait than may, or for too long.

    Raised by `access/admission.py`, `engine/queue.py` and `recommend/cold.py`.
    """

    status = 429
    code = "queue_full"
    title = "Too many requests"

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} requests wait already; try again in a second", headers={"Retry-After": "1"}
        )


class TooManyAtOnce(ServiceError):
    """More jobs, followers of jobs or evaluations than
    a domain or this process may have in progress.
    """

    status = 429
    code = "too_many_at_once"
    title = "Too many at once"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


class AtCapacity(ServiceError):
    """More at once than this process keeps."""

    status = 503
    code = "busy"
    title = "Busy"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; try again in a few seconds", headers={"Retry-After": "2"})


class DomainLoading(ServiceError):
    """A domain that exists and will answer soon."""

    status = 503
    code = "domain_loading"
    title = "Domain loading"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"domain {name!r} is {why}; try again shortly", headers={"Retry-After": "1"}
        )


class Stopping(ServiceError):
    """What takes long ends early, since the service stops."""

    status = 503
    code = "stopping"
    title = "Stopping"

    def __init__(self) -> None:
        super().__init__("the service stops: ask again in a moment", headers={"Retry-After": "1"})


class StateError(Exception):
    """State that cannot be opened or used."""


class StateUnavailable(ServiceError, StateError):
    """State that does not answer now.

    Whether a write was done is unknown; doing it again is safe.
    """

    status = 503
    code = "state_unavailable"
    title = "State unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


class StateLost(StateUnavailable):
    """State that answers but is not what this service wrote:
    an empty catalog is never served in its place.
    """

    code = "state_lost"
    title = "State lost"


class StateDamaged(StateUnavailable):
    """State whose file cannot be read any more until somebody mends it."""

    code = "state_damaged"
    title = "State damaged"
