"""What goes in and out over HTTP; the OpenAPI document is made of these."""

from __future__ import annotations

import json
from math import isfinite
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
    model_validator,
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
_PlainId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ID_BYTES, pattern=r"^[\x20-\x7e]+$"),
    WithJsonSchema(_ID_SCHEMA),
]
_AnyId = Annotated[str, AfterValidator(check_id), WithJsonSchema(_ID_SCHEMA)]
Id = Annotated[
    # Printable ASCII, as most ids are, is checked without a call of Python for each id of a
    # history.
    Annotated[_PlainId, Tag("|fast")] | Annotated[_AnyId, Tag("|id")],
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


class HistoryItem(Body):
    """An item of a history, with the time it was touched."""

    item_id: ItemId
    timestamp: Timestamp = None


class RawItem(Body):
    """An item that no catalog has: a text,
    a picture, or both; it is embedded as the domain's own items are.
    """

    text: Text | None = None
    image_b64: str | None = Field(
        None, min_length=1, description="JPEG, PNG, WebP, GIF or BMP in base64."
    )
    timestamp: Timestamp = None

    @model_validator(mode="after")
    def _has_something(self) -> RawItem:
        if self.text is None and self.image_b64 is None:
            raise ValueError("expected item_id, text or image_b64")
        return self


class Exclude(Body):
    """What must not be recommended."""

    seen: bool = True
    item_ids: list[ItemId] = Field([], max_length=MAX_HISTORY)


HistoryEntry = Annotated[
    Annotated[_PlainId, Tag("|fast")]
    | Annotated[_AnyId, Tag("|id")]
    | Annotated[HistoryItem, Tag("|object:item_id")]
    | Annotated[RawItem, Tag("|object:text,image_b64")],
    Field(union_mode="left_to_right"),
]


def _all_timed_or_none(history: list[HistoryEntry]) -> list[HistoryEntry]:
    timed = [
        place
        for place, entry in enumerate(history)
        if not isinstance(entry, str) and _is_timed(entry)
    ]
    if timed and len(timed) != len(history):
        untimed = next(place for place in range(len(history)) if place not in timed)
        raise ValueError(
            f"[{timed[0]}] has a timestamp and [{untimed}] has none: send one with every entry,"
            " which orders them, or with none, oldest first"
        )
    return history


class HistoryRequest(Body):
    """What begins with a history."""

    history: Annotated[list[HistoryEntry], AfterValidator(_all_timed_or_none)] = Field(
        max_length=MAX_HISTORY,
        description=(
            "Oldest first, unless every entry has a timestamp; may be empty. Ids, or texts and"
            " pictures of things that the catalog lacks."
        ),
    )

    def entries(self) -> list[str | RawItem]:
        """The history, oldest first: ids, and what has none."""
        history = self.history
        if history and not isinstance(history[0], str) and _is_timed(history[0]):
            history = sorted(history, key=_time)
        return [entry.item_id if isinstance(entry, HistoryItem) else entry for entry in history]


def _is_timed(entry: HistoryItem | RawItem) -> bool:
    return entry.timestamp is not None


def _time(entry: str | HistoryItem | RawItem) -> float:
    return 0.0 if isinstance(entry, str) or entry.timestamp is None else entry.timestamp


class RecommendRequest(HistoryRequest):
    """A history, oldest first, and what is wanted of the answer."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"history": ["n101", "n205"], "k": 10}]}
    )

    user_id: Id | None = Field(
        None, description="Whose history it is: a canary answers the same users every time."
    )
    k: WholeNumber = Field(10, ge=1, le=MAX_K, description="How many items.")
    offset: WholeNumber = Field(0, ge=0, le=MAX_K, description="How many of the best to leave out.")
    version: WantedVersion | None = Field(
        None, description="Pin a version; 409 where it is not in memory."
    )
    exclude: Exclude = Exclude()
    fallback: Literal["popular", "none"] = Field(
        "popular", description="What answers without a known history."
    )
    on_unknown: Literal["ignore", "error"] = Field(
        "ignore", description="What to do about unknown items."
    )
    include: list[Literal["metadata", "timing"]] = Field(
        [], description="What to add to the answer."
    )


class SimilarRequest(Body):
    """An item of the catalog, or a text, a picture or both, whose neighbours are wanted."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"item_id": "n101", "k": 10}]}
    )

    item_id: ItemId | None = None
    text: Text | None = None
    image_b64: str | None = Field(
        None, min_length=1, description="JPEG, PNG, WebP, GIF or BMP in base64."
    )
    k: WholeNumber = Field(10, ge=1, le=MAX_K, description="How many items.")
    version: WantedVersion | None = Field(
        None, description="Pin a version; 409 where it is not in memory."
    )
    include: list[Literal["metadata"]] = Field([], description="What to add to the answer.")

    @model_validator(mode="after")
    def _one_query(self) -> SimilarRequest:
        if (self.item_id is None) == (self.text is None and self.image_b64 is None):
            raise ValueError("expected either item_id, or text, image_b64 or both")
        return self


class EmbedRequest(Body):
    """Items of the catalog, and texts and pictures, whose vectors are wanted."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"items": ["n101", {"text": "Storm closes roads"}]}]},
    )

    items: list[HistoryEntry] = Field(min_length=1, max_length=MAX_EMBEDDED)
    version: WantedVersion | None = Field(
        None, description="Pin a version; 409 where it is not in memory."
    )


class ProbeBody(Body):
    """What a user had, oldest first, and what came next."""

    history: list[ItemId] = Field(min_length=1, max_length=MAX_HISTORY)
    target: ItemId


class EvaluateRequest(Body):
    """Which version to evaluate."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 3}]})

    version: WantedVersion | None = Field(None, description="The live one if none is named.")
    k: WholeNumber = Field(10, ge=1, le=MAX_K, description="How long the lists are.")


Share = Annotated[float, Field(ge=0, le=1)]


class GateBody(Body):
    """What a version must reach on the domain's probes;
    a threshold that is not given is not asked for.
    """

    min_hr10: Share | None = Field(None, description="Least HR@10.")
    min_ndcg10: Share | None = Field(None, description="Least NDCG@10.")
    max_drop: Share | None = Field(
        None, description="How much lower than the live version's HR@10 may be, relative."
    )
    min_overlap: Share | None = Field(
        None, description="Least share of the live version's items that stay: drift."
    )
    min_distinct: Share = Field(
        0.02, description="Least share of different items among those possible: collapse."
    )


class ActivateRequest(Body):
    """How a version goes live."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"canary_percent": 10, "gate": {"max_drop": 0.05}}]},
    )

    canary_percent: WholeNumber = Field(
        0, ge=0, le=99, description="Answer this share of the users only; 0: everybody."
    )
    gate: GateBody | None = Field(None, description="What it must reach before.")


class PinBody(Body):
    """Whether a version is kept, in memory and undeleted."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"pinned": True}]})

    pinned: bool


class VersionArm(Body):
    """A version that is in memory."""

    version: WantedVersion


class StrategyArm(Body):
    """What needs no model."""

    strategy: Literal["popular"]


class CompareRequest(HistoryRequest):
    """One history, answered by several arms."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "history": ["n101"],
                    "arms": [{"version": 3}, {"version": "none"}, {"strategy": "popular"}],
                }
            ]
        },
    )

    k: WholeNumber = Field(10, ge=1, le=MAX_K, description="How many items.")
    arms: list[
        Annotated[VersionArm, Tag("|object:version")]
        | Annotated[StrategyArm, Tag("|object:strategy")]
    ] = Field(
        [], max_length=MAX_ARMS, description="Empty: every version in memory, and popular items."
    )
    include: list[Literal["metadata"]] = Field([], description="What to add to the answer.")


class DomainBody(Body):
    """What can be set of a domain."""

    title: str = Field("", max_length=200)
    backbone: str | None = Field(
        None,
        description=(
            "Fingerprint, its beginning, or the folder's name; needed where several are loaded."
        ),
    )


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


class ProblemBody(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[dict[str, Any]] | None = None
