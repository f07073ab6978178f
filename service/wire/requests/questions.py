"""What is asked of a domain: recommendations, neighbours, vectors, comparisons, evaluations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    Tag,
    model_validator,
)

from service.wire.requests.fields import (
    MAX_ARMS,
    MAX_EMBEDDED,
    MAX_HISTORY,
    MAX_K,
    AnyId,
    Body,
    Id,
    ItemId,
    PlainId,
    Text,
    Timestamp,
    WantedVersion,
    WholeNumber,
)


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
    Annotated[PlainId, Tag("|fast")]
    | Annotated[AnyId, Tag("|id")]
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
