"""JSON bodies become requests: parsed strictly, refused with every problem at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import from_json

from service.errors import InvalidRequest, MalformedBody
from service.wire.validation import invalid_request, plain_errors

M = TypeVar("M", bound=BaseModel)


def parse_body(model: type[M], body: bytes, example: str) -> M:
    """Read a JSON body.

    Raises:
        MalformedBody: no JSON; InvalidRequest: with every value that is wrong.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False)
        if found[0]["type"] == "json_invalid":
            raise MalformedBody(f"{found[0]['msg']}; expected for example {example}") from error
        raise _refuse(model, from_json(body), found) from error


def parse_value(model: type[M], value: Any) -> M:
    """Validate JSON that was parsed already, as strictly as `parse_body`.

    Raises:
        InvalidRequest: with every value that is wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _refuse(model, value, error.errors(include_url=False)) from error


def read_json(body: bytes, example: str) -> Any:
    """Return what a JSON body holds, for `parse_value`.

    Raises:
        MalformedBody: no JSON.
    """
    try:
        return from_json(body)
    except ValueError as error:
        raise MalformedBody(f"Invalid JSON: {error}; expected for example {example}") from error


def _refuse(model: type[BaseModel], value: Any, found: Sequence[Any]) -> InvalidRequest:
    fields = () if issubclass(model, RootModel) else tuple(model.model_fields)
    return invalid_request(plain_errors(found, value, fields))
