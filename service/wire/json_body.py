"""JSON bodies become requests: parsed strictly, refused with every problem at once."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import from_json

from service.errors import MalformedBody
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
        fields = () if issubclass(model, RootModel) else tuple(model.model_fields)
        raise invalid_request(plain_errors(found, from_json(body), fields)) from error
