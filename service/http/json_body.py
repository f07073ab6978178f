"""JSON bodies: read within their limit, parsed strictly, refused with every problem at once."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import from_json

from service.errors import MalformedBody, PayloadTooLarge
from service.http.bodies import body_of, refuse_long
from service.wire.validation import invalid_request, plain_errors

M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body that must fit in memory; the limit holds whatever its headers claim.

    Raises:
        PayloadTooLarge: more than `limit` bytes; AtCapacity: the bodies of all requests take too
            much memory.
    """
    refuse_long(request, limit)
    given = body_of(request.scope)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PayloadTooLarge(f"more than {limit} bytes")
        if given is not None:
            given.keep(len(body))
    return bytes(body)


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
