"""What each field of a manifest may be: type, length, depth and count.

A manifest comes from strangers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from adapters_store.quoting import clip, quote
from adapters_store.strict_json import check_value

FORMAT = 1
MAX_MANIFEST = 256 * 1024
"""Bytes of the whole manifest; `swaprec train` writes less than 128 KiB,
however many epochs there are.
"""
MAX_BYTES = {
    "spec": 8 * 1024,
    "parameters": 4 * 1024,
    "metrics": 32 * 1024,
    "curves": 128 * 1024,
    "config": 64 * 1024,
}
MAX_NAMES = 64
DOMAIN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


def _refuse_unbounded(value: object) -> object:
    """Refuse objects of too many names before each of them is looked at."""
    if isinstance(value, Mapping) and len(value) > MAX_NAMES:
        raise ValueError(f"{len(value)} names, expected at most {MAX_NAMES}")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Label = Annotated[str, StringConstraints(max_length=128)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Curve = Annotated[list[Number], Field(fail_fast=True)]
Bounded = BeforeValidator(_refuse_unbounded)


class ManifestSchema(BaseModel):
    """The fields that are known; others are kept as they are, and never shown."""

    model_config = ConfigDict(strict=True, extra="allow")

    domain: Annotated[str, StringConstraints(pattern=DOMAIN)]
    kind: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    spec: Annotated[dict[Name, Any], Bounded]
    backbone: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    dtype: Name
    data_digest: Label = ""
    max_history: int = Field(0, ge=0, le=1_000_000_000)
    parameters: Annotated[dict[Name, Number], Bounded] = {}
    metrics: Annotated[dict[Name, Any], Bounded] = {}
    curves: Annotated[dict[Name, Curve], Bounded] = {}
    config: Annotated[dict[Name, Any], Bounded] = {}
    commit: Label = ""
    created_at: Label = ""


def find_flaws(value: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what is wrong with a manifest,
    by the field that has it; an empty one where nothing is.
    """
    flaws: dict[str, list[str]] = {}
    if type(value.get("format")) is not int or value["format"] != FORMAT:
        flaws["format"] = [
            f"format {quote(value.get('format'))}, this version of swaprec reads {FORMAT}"
        ]
    for name, inner in value.items():
        problem = _find_unshowable(name, inner)
        if problem is not None:
            flaws[name] = [f"{clip(name, 64) if name.isascii() else quote(name)} {problem}"]
    for field, found in _find_misfits(value).items():
        flaws.setdefault(field, found)
    return flaws


def _find_misfits(value: Mapping[str, Any]) -> dict[str, list[str]]:
    misfits: dict[str, list[str]] = {}
    try:
        ManifestSchema.model_validate(value)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False):
            misfits.setdefault(str(one["loc"][0]), []).append(_describe(one))
    return misfits


def _find_unshowable(name: str, value: object) -> str | None:
    """Return why a field cannot be kept and shown whatever it means:
    its size, NaN, control characters.
    """
    try:
        check_value({name: value})
        size = len(json.dumps(value))
    except ValueError as error:
        return f"cannot be kept: {error}"
    most = MAX_BYTES.get(name, MAX_MANIFEST)
    return f"has {size} bytes of JSON, expected at most {most}" if size > most else None


def _describe(error: Mapping[str, Any]) -> str:
    place = clip(".".join(str(part) for part in error["loc"]), 100)
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "value_error":
        return f"{place}: {error['msg'].removeprefix('Value error, ')}"
    said = (
        error["msg"]
        .replace("Input should be ", "expected ")
        .replace("String should ", "it should ")
    )
    return f"{place} is {quote(error['input'])}, {said}"
