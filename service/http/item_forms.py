"""Items as a form: fields by their names, the picture as a file."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import MalformedBody
from service.http.bodies import read_body
from service.wire.json_body import read_json

FORM = "multipart/form-data"
FILE = "image"
PLAIN = ("item_id", "title", "text", "category", "timestamp")
"""Fields that are taken as they stand;
`available`, `attributes` and others are JSON, as texts are that are lists.
"""
MAX_FIELDS = 16
SLICE_BYTES = 64 * 1024


async def read_item(request: Request, limit: int, example: str) -> Any:
    """Read the fields of an item's body, whether it comes as JSON or as a form; JSON may be
    anything.

    Raises:
        PayloadTooLarge; MalformedBody: no JSON, a broken form, or one with other files than one
            `image`.
    """
    body = await read_body(request, limit)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        return await _from_form(request, body)
    return await run_in_threadpool(read_json, body, example)


async def _from_form(request: Request, body: bytes) -> dict[str, object]:
    slices = _slices(body)
    parser = MultiPartParser(
        request.headers, slices, max_files=1, max_fields=MAX_FIELDS, max_part_size=len(body)
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise MalformedBody(f"the form is broken: {getattr(error, 'message', error)}") from error
    try:
        item: dict[str, object] = {}
        for name, value in form.multi_items():
            field, content = await _part(name, value)
            if field in item:
                raise MalformedBody(f"the form has two parts named {name!r}")
            item[field] = content
    finally:
        await form.close()
    return item


async def _part(name: str, value: UploadFile | str) -> tuple[str, object]:
    """Return a part as a field of the item."""
    if isinstance(value, UploadFile) != (name == FILE):
        raise MalformedBody(
            f"the form's part {name!r}: expected a file named {FILE}, and fields that are none"
        )
    if isinstance(value, UploadFile):
        return "image_b64", await run_in_threadpool(_base64, await value.read())
    return name, _value(name, value)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _value(name: str, value: str) -> object:
    """Read a field; what is not as expected is refused by its name later, with all the others."""
    if name in PLAIN and not (name == "text" and value.startswith("[")):
        return value
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        return value


async def _slices(body: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a body piece by piece: others are answered between, however long the parser takes."""
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]
        await asyncio.sleep(0)
