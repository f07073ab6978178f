"""The OpenAPI document: what FastAPI makes of the routes, and which key each of them needs."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service.gate import is_open, needed
from service.parts import problems


def describe_keys(app: FastAPI) -> None:
    """Name the key's scope at every operation, and the answers to a request without it."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        if "security" in document:
            return document
        document.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"key": []}]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _describe(operation, method.upper(), path)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(operation: dict[str, Any], method: str, path: str) -> None:
    if is_open(path):
        operation["security"] = []
        return
    operation["x-scope"] = needed(method, path)
    operation["responses"] |= {str(status): answer for status, answer in problems(401, 403).items()}
