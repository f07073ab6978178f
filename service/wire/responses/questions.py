"""Answers to what is asked of a domain."""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # typing's own does not do for pydantic on Python 3.11
)

from pydantic import Field
from typing_extensions import TypedDict

from service.wire.responses.shared import VersionName

FallbackReason = Literal["empty_history", "all_unknown", "empty_catalog"]


class RecommendedItem(TypedDict):
    """One recommendation."""

    item_id: str
    rank: int
    score: Annotated[float | None, Field(description="Null for a popular item of a fallback.")]
    source: Literal["model", "popular"]
    metadata: NotRequired[dict[str, Any]]


class Fallback(TypedDict):
    """Whether the answer does not come from the model, and why."""

    used: bool
    reason: FallbackReason | None


class Timing(TypedDict):
    """How long an answer took, in milliseconds, if the request asked for it."""

    timing_ms: NotRequired[dict[str, float]]


class Recommendation(TypedDict):
    """Recommendations and what produced them."""

    recommendation_id: str
    domain: str
    version: VersionName
    digest: str
    index_generation: int
    items: list[RecommendedItem]
    history_used: int
    history_truncated: bool
    unknown_items: list[str]
    fallback: Fallback
    degraded: Annotated[
        bool,
        Field(
            description="State does not answer: the catalog may be behind, metadata may be missing."
        ),
    ]
    timing_ms: NotRequired[dict[str, float]]


class SimilarItem(TypedDict):
    """A neighbour."""

    item_id: str
    rank: int
    score: Annotated[float, Field(description="Cosine of the two vectors.")]
    metadata: NotRequired[dict[str, Any]]


class Similar(TypedDict):
    """Neighbours and what produced them."""

    domain: str
    version: VersionName
    digest: str
    index_generation: int
    items: list[SimilarItem]


class Embedded(TypedDict):
    """Vectors, in the order of the request, and what produced them."""

    domain: str
    version: VersionName
    digest: str
    index_generation: int
    vectors: list[list[float]]


class Arm(TypedDict):
    """One column of a comparison."""

    name: Annotated[str, Field(description="The version, or `popular`.")]
    version: VersionName | None
    index_generation: int
    items: list[RecommendedItem]
    fallback: Fallback


class Moved(TypedDict):
    """An item that some arms recommend: its rank in each, null where it is not among the k."""

    item_id: str
    ranks: list[int | None]


class Comparison(TypedDict):
    """Several answers to one history."""

    domain: str
    k: int
    arms: list[Arm]
    overlap_at_k: Annotated[
        list[list[float]], Field(description="Share of common items, arm by arm.")
    ]
    moved: Annotated[list[Moved], Field(description="Items whose ranks differ, best rank first.")]
    unknown_items: list[str]


class ProbeCount(TypedDict):
    """How many held-out probes a domain has."""

    domain: str
    probes: int


class Evaluated(TypedDict):
    """What a version makes of the probes, by the path that answers requests."""

    domain: str
    version: VersionName
    digest: str
    index_generation: int
    k: int
    probes: int
    hr: float
    ndcg: float
    unknown_targets: Annotated[int, Field(description="Targets that the catalog lacks: misses.")]
    distinct_items: Annotated[int, Field(description="How many items were recommended at all.")]
