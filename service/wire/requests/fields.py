"""The values that requests are made of: ids, texts, times, whole numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
)

from adapters_store.names import MAX_ID_BYTES, check_id
from service.wire.timestamps import parse_timestamp

MAX_K = 500
MAX_HISTORY = 1000
MAX_ARMS = 8
MAX_EMBEDDED = 256
MAX_PROBES = 20_000
MAX_TEXT = 20_000
MAX_ATTRIBUTES = 8
MAX_IMAGE_B64 = 28 * 1024 * 1024
MAX_ATTRIBUTES_BYTES = 64 * 1024

_ID_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
PlainId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ID_BYTES, pattern=r"^[\x20-\x7e]+$"),
    WithJsonSchema(_ID_SCHEMA),
]
AnyId = Annotated[str, AfterValidator(check_id), WithJsonSchema(_ID_SCHEMA)]
Id = Annotated[
    # Printable ASCII, as most ids are, is checked without a call of Python for each id of a
    # history.
    Annotated[PlainId, Tag("|fast")] | Annotated[AnyId, Tag("|id")],
    Field(union_mode="left_to_right"),
    WithJsonSchema(_ID_SCHEMA),
]
"""An id: text of 1 to 256 bytes in UTF-8 without control characters, as `check_id` says."""

ItemId = Id

OneText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Attribute = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Text = (
    Annotated[OneText, Tag("|text")]
    | Annotated[list[Attribute], Field(min_length=1, max_length=MAX_ATTRIBUTES), Tag("|list")]
)
"""A text, or its attributes in the order of the backbone's,
such as title and abstract; one of them may be empty.
"""


def _without_point(value: Any) -> Any:
    """Return a whole number that is written with a point,
    such as 5.0, as JSON allows, as an integer.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_without_point)]
"""A whole number; neither text nor true."""

WantedVersion = (
    Annotated[WholeNumber, Tag("|whole number")] | Annotated[Literal["none"], Tag("|text:none")]
)


class Body(BaseModel):
    """What a client sends: unknown fields are errors,
    and no value is taken for another type, such as "5" for 5.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


Timestamp = Annotated[
    float | None,
    BeforeValidator(parse_timestamp),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}, {"type": "null"}]}
    ),
    Field(
        description=(
            "ISO 8601, or seconds since 1970. A history whose entries all have one is ordered"
            " by it."
        )
    ),
]
