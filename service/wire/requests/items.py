"""Items as they are uploaded."""

from __future__ import annotations

import json
from math import isfinite
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from service.wire.requests.fields import MAX_ATTRIBUTES_BYTES, MAX_IMAGE_B64, Body, ItemId, Text


def _small_json(value: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(value, allow_nan=False))  # 1e999 is JSON and infinite
    if size > MAX_ATTRIBUTES_BYTES:
        raise ValueError(f"{size} bytes of JSON, at most {MAX_ATTRIBUTES_BYTES} are kept")
    return value


def _number_as_text(value: Any) -> Any:
    """Return a number as the text of it; a whole one without its point. What is no number stays."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, float) and not isfinite(value) else str(value)


Attributes = Annotated[dict[str, Any], AfterValidator(_small_json)]
RowTimestamp = Annotated[
    Annotated[str, StringConstraints(max_length=64)] | None, BeforeValidator(_number_as_text)
]
"""When an item came to be, as text;
a number is kept as the text of it, since histories take numbers, too.
"""


class ItemBody(Body):
    """An item as it is uploaded.

    What is embedded is `text`, or `title` where there is no text, and the picture, as far as the
    domain's backbone reads them. A field that is null has its default.
    """

    item_id: ItemId
    title: str | None = Field(None, min_length=1, max_length=2000)
    text: Text | None = None
    image_b64: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_IMAGE_B64,
        description="JPEG, PNG, WebP, GIF or BMP in base64.",
    )
    category: str | None = Field(None, max_length=200)
    timestamp: RowTimestamp = None
    popularity: float | None = Field(
        0.0, ge=0, allow_inf_nan=False, description="Order of the fallback, highest first."
    )
    available: bool | None = Field(
        default=True, description="False: known in histories, never recommended."
    )
    attributes: Attributes | None = Field(
        {}, description="Whatever else is known of it; at most 64 KiB of JSON."
    )


class ItemPatch(Body):
    """What changes of an item; null gives a field its default, what is not named stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"available": False}]}
    )

    title: str | None = Field(None, min_length=1, max_length=2000)
    text: Text | None = None
    image_b64: str | None = Field(None, min_length=1, max_length=MAX_IMAGE_B64)
    category: str | None = Field(None, max_length=200)
    timestamp: RowTimestamp = None
    popularity: float | None = Field(None, ge=0, allow_inf_nan=False)
    available: bool | None = None
    attributes: Attributes | None = Field(
        None, description="Merged into those there are; null takes one away."
    )
