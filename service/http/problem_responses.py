"""Which problems a route may answer with, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.wire.problems import ProblemBody


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document which errors a route answers, for the OpenAPI document."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


_MEANINGS = {
    400: "Malformed body.",
    401: "No key that is known here.",
    403: "The key may not do this.",
    404: "Domain, version, item or job not found.",
    409: "Contradicts what is there.",
    413: "Body too large.",
    415: "Not a format that is read here.",
    422: "Invalid values, all of them listed.",
    429: "Too many requests wait; see Retry-After.",
    500: "Internal error; the log has it under the request id.",
    503: "Not ready yet, or state does not answer; see Retry-After.",
    507: "No room on the disk, or in Redis.",
}
PROBLEM_SCHEMA = ProblemBody.model_json_schema()
