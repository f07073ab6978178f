"""What goes in and out over HTTP; the OpenAPI document is made of these."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from service.state import Item

MAX_K = 500
MAX_HISTORY = 1000
MAX_ATTRIBUTES_BYTES = 64 * 1024

ItemId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
DomainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Body(BaseModel):
    """What a client sends; unknown fields are errors, so that a misspelled one is not ignored."""

    model_config = ConfigDict(extra="forbid")


class HistoryItem(Body):
    """An item of a history, with the time it was touched."""

    item_id: ItemId
    timestamp: str | None = None


class Exclude(Body):
    """What must not be recommended."""

    seen: bool = True
    item_ids: list[ItemId] = Field([], max_length=MAX_HISTORY)


class RecommendRequest(Body):
    """A history, oldest first, and what is wanted of the answer."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"history": ["n101", "n205"], "k": 10}]})

    history: list[ItemId | HistoryItem] = Field(max_length=MAX_HISTORY, description="Oldest first; may be empty.")
    k: int = Field(10, ge=1, le=MAX_K, description="How many items.")
    offset: int = Field(0, ge=0, le=MAX_K, description="How many of the best to leave out.")
    version: int | Literal["none"] | None = Field(None, description="Pin a version; 409 where it is not in memory.")
    exclude: Exclude = Exclude()
    fallback: Literal["popular", "none"] = Field("popular", description="What answers without a known history.")
    on_unknown: Literal["ignore", "error"] = Field("ignore", description="What to do about unknown items.")
    include: list[Literal["metadata", "timing"]] = Field([], description="What to add to the answer.")

    def history_ids(self) -> list[str]:
        """Ids of the history, oldest first."""
        return [entry if isinstance(entry, str) else entry.item_id for entry in self.history]


class RecommendedItem(BaseModel):
    """One recommendation; `score` is null for a popular item of a fallback."""

    item_id: str
    rank: int
    score: float | None
    source: Literal["model", "popular"]
    metadata: dict[str, Any] | None = None


class Fallback(BaseModel):
    """Whether the answer does not come from the model, and why."""

    used: bool
    reason: Literal["empty_history", "all_unknown", "empty_catalog"] | None


class RecommendResponse(BaseModel):
    """Recommendations and what produced them."""

    recommendation_id: str
    domain: str
    version: int | Literal["none"]
    digest: str
    index_generation: int
    items: list[RecommendedItem]
    history_used: int
    history_truncated: bool
    unknown_items: list[str]
    fallback: Fallback
    degraded: bool = Field(description="State does not answer: the catalog may be behind, metadata may be missing.")
    timing_ms: dict[str, float] | None = None


class DomainBody(Body):
    """What can be set of a domain."""

    title: str = Field("", max_length=200)
    backbone: str | None = Field(
        None, description="Fingerprint, its beginning, or the folder's name; needed where several are loaded."
    )


class ItemBody(Body):
    """An item as it is uploaded. What is embedded is `text`, or `title` where there is no text."""

    item_id: ItemId
    title: str | None = Field(None, min_length=1, max_length=2000)
    text: str | None = Field(None, min_length=1, max_length=20_000)
    category: str | None = Field(None, max_length=200)
    timestamp: str | None = Field(None, max_length=64)
    popularity: float = Field(0.0, ge=0, allow_inf_nan=False, description="Order of the fallback, highest first.")
    attributes: dict[str, Any] = {}

    @field_validator("attributes")
    @classmethod
    def _small_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        size = len(json.dumps(value, allow_nan=False))  # 1e999 is JSON and infinite
        if size > MAX_ATTRIBUTES_BYTES:
            raise ValueError(f"{size} bytes of JSON, at most {MAX_ATTRIBUTES_BYTES} are kept")
        return value

    def to_item(self) -> Item:
        """Return what state keeps.

        Raises:
            ValueError: neither title nor text.
        """
        text = self.text or self.title
        if text is None:
            raise ValueError("title or text is needed: it is what the model reads")
        given = {name: getattr(self, name) for name in ("title", "category", "timestamp")}
        metadata = {name: value for name, value in given.items() if value is not None}
        return Item(self.item_id, text, self.popularity, metadata | self.attributes)


class ProblemBody(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[dict[str, Any]] | None = None
