"""Domains, versions and jobs as they are answered."""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # typing's own does not do for pydantic on Python 3.11
)

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from service.wire.responses.shared import VersionName

# A field that is answered and not documented is an error, not dropped.
_EXACT = ConfigDict(extra="forbid")


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
