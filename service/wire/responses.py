"""What answers look like: the OpenAPI document and the client's types are both made of these."""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NotRequired,  # typing's own does not do for pydantic on Python 3.11
    TypeVar,
)

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

T = TypeVar("T")
VersionName = int | Literal["none"]
FallbackReason = Literal["empty_history", "all_unknown", "empty_catalog"]

# A field that is answered and not documented is an error, not dropped.
_EXACT = ConfigDict(extra="forbid")


class Page(TypedDict, Generic[T]):
    """A part of a list; `next_cursor` asks for what follows and is null at the end."""

    items: list[T]
    next_cursor: str | None


class Identity(TypedDict):
    """Which domain, version and generation of its index an answer comes from."""

    domain: str
    version: VersionName
    digest: str
    index_generation: int


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


class Job(TypedDict):
    """Work that outlives its request."""

    id: str
    kind: str
    domain: str
    detail: dict[str, Any]
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    stage: str
    done: int
    total: int
    eta_s: Annotated[
        float | None,
        Field(description="Seconds that this stage will still take, at its pace until now."),
    ]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: str
    updated_at: str
    cancelling: Annotated[
        bool, Field(description="Somebody cancelled it; it ends at its next step.")
    ]


class AdapterCard(TypedDict):
    """A version: what its bundle says of itself, and whether it is live."""

    domain: str
    version: int
    digest: str
    size: Annotated[int, Field(description="Bytes.")]
    kind: str
    backbone: str
    dtype: str
    data_digest: str
    parameters: dict[str, float]
    metrics: dict[str, Any]
    curves: Annotated[
        dict[str, list[float]],
        Field(
            description=(
                "`loss` of each epoch (of `loss_epoch`, if given), `hr` and `ndcg` of each `epoch`"
                " validated; at most some 800 points each."
            )
        ),
    ]
    created_at: str
    uploaded_at: str
    live: NotRequired[bool]
    canary_percent: NotRequired[int]
    canary_since: NotRequired[str | None]
    pinned: NotRequired[bool]
    damaged: NotRequired[
        Annotated[
            list[str],
            Field(description="Fields that cannot be shown, and are empty; the version may serve."),
        ]
    ]
    job: NotRequired[Annotated[Job, Field(description="With `activate=true`.")]]


class Domain(TypedDict):
    """A domain and what it answers from."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]

    domain: str
    title: str
    backbone: str
    created_at: str
    items: int
    versions: list[int]
    status: Literal["ready", "loading", "broken"]
    reason: NotRequired[Annotated[str, Field(description="Why it does not answer.")]]
    in_memory: NotRequired[
        Annotated[
            bool,
            Field(
                description="False: evicted to keep the memory budget; the next request loads it."
            ),
        ]
    ]
    live_version: NotRequired[VersionName]
    canary_version: NotRequired[VersionName | None]
    canary_percent: NotRequired[
        Annotated[int, Field(description="Share of the users that the canary answers.")]
    ]
    canary_since: NotRequired[
        Annotated[str | None, Field(description="When the canary got this share.")]
    ]
    previous_version: NotRequired[VersionName | None]
    pinned_versions: NotRequired[list[int]]
    index_generation: NotRequired[int]
    searchable_items: NotRequired[int]
    index: NotRequired[
        Annotated[
            dict[str, Any], Field(description="Its kind; recall and tuning if it is approximate.")
        ]
    ]
    memory_bytes: NotRequired[dict[str, int]]


class RolledBack(TypedDict):
    """What is live again."""

    domain: str
    version: VersionName
    digest: str
    index_generation: int
    skipped_versions: NotRequired[
        Annotated[
            list[int],
            Field(description="Deleted versions of the history that a rollback went past."),
        ]
    ]


class Item(TypedDict):
    """An item as it is stored."""

    item_id: str
    text: Annotated[str | list[str], Field(description="A list where it has several attributes.")]
    image: Annotated[str, Field(description="SHA-256 of its picture; empty without one.")]
    popularity: float
    available: bool
    metadata: dict[str, Any]


class RejectedRow(TypedDict):
    """A row of an import that was not stored."""

    index: int
    item_id: str | None
    code: str
    detail: str


class RejectedKind(TypedDict):
    """How many rows were rejected for one reason, with the first of them."""

    count: int
    index: int
    item_id: str | None
    detail: str


class RowsWarning(TypedDict):
    """What is odd about rows that were stored."""

    code: str
    detail: str
    share: NotRequired[float]


class ImportReport(TypedDict):
    """What an import did; of the rejected rows the first thousand are listed, all are counted."""

    accepted: int
    updated: int
    unchanged: int
    rejected_count: int
    rejected: list[RejectedRow]
    rejected_kinds: NotRequired[
        Annotated[dict[str, RejectedKind], Field(description="All of them, by reason.")]
    ]
    warnings: NotRequired[
        Annotated[list[RowsWarning], Field(description="About rows that were stored.")]
    ]


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


class Alive(TypedDict):
    """The process turns."""

    status: Literal["ok"]


class Readiness(TypedDict):
    """Which domains do not answer, and why."""

    status: Literal["ready", "loading"]
    loading: dict[str, str]
    broken: dict[str, str]
    degraded: Annotated[
        dict[str, str], Field(description="What is missing while recommendations go on.")
    ]


class StateInfo(TypedDict):
    """Where domains, catalogs and jobs are kept."""

    backend: Literal["sqlite", "redis"]
    where: str
    server: NotRequired[str]
    trouble: Annotated[str | None, Field(description="Why it does not answer now.")]
    warnings: list[str]


class LoadedBackbone(TypedDict):
    """A backbone in memory."""

    name: str
    fingerprint: str
    device: str
    parameters: int
    memory_bytes: int
    adapters_in_table: int


class DomainMemory(TypedDict):
    """What a domain takes."""

    domain: str
    version: VersionName
    items: int
    memory_bytes: dict[str, int]


class Info(TypedDict):
    """What runs."""

    version: str
    process: Annotated[str, Field(description="Which of several workers or replicas answers.")]
    state: StateInfo
    backbones: list[LoadedBackbone]
    domains: list[DomainMemory]
