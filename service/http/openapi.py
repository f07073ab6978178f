"""The OpenAPI document: what FastAPI makes of the routes,
their bodies as named schemas, keys and common errors.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service.http.auth_middleware import is_open, needed
from service.http.problem_responses import PROBLEM_SCHEMA, problems

WITHOUT_STATE = ("/livez", "/metrics", "/info")

_INNER, _SHARED = "#/$defs/", "#/components/schemas/"


def describe(app: FastAPI) -> None:
    """Complete the document that an app answers with."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        if "security" in document:
            return document
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["ProblemBody"] = PROBLEM_SCHEMA
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"key": []}]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _describe_key(operation, method.upper(), path)
                _describe_errors(operation, method.upper(), path)
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    _share(content, components.setdefault("schemas", {}))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_key(operation: dict[str, Any], method: str, path: str) -> None:
    if is_open(path):
        operation["security"] = []
        return
    operation["x-scope"] = needed(method, path)
    operation["responses"] |= {str(status): answer for status, answer in problems(401, 403).items()}


def _describe_errors(operation: dict[str, Any], method: str, path: str) -> None:
    """Add what every route of a kind may answer; what only one does is written at the route."""
    statuses = [500]
    if operation.get("parameters") or "requestBody" in operation:
        statuses.append(422)
    else:
        del operation["responses"]["422"]
    if "requestBody" in operation:
        statuses += [400, 413, 415]
    if "{" in path:
        statuses.append(400)
    if path not in WITHOUT_STATE:
        statuses.append(503)
    if needed(method, path) != "read":
        statuses.append(507)
    named = operation["responses"] | {
        str(status): answer for status, answer in problems(*statuses).items()
    }
    operation["responses"] = dict(sorted(named.items()))


def _share(content: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move a body's schema, which its route reads by itself,
    to the shared ones: references must begin at the root.
    """
    schema = content.get("schema", {})
    if schema.get("title") is None or "$ref" in schema:
        return
    for name, inner in {**schema.pop("$defs", {}), schema["title"]: schema}.items():
        schemas[name] = _rerooted(inner)
    content["schema"] = {"$ref": _SHARED + schema["title"]}


def _rerooted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rerooted(one) for name, one in value.items() if name != "$defs"}
    if isinstance(value, list):
        return [_rerooted(one) for one in value]
    return (
        value.replace(_INNER, _SHARED)
        if isinstance(value, str) and value.startswith(_INNER)
        else value
    )
