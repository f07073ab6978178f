"""What answers look like: the OpenAPI document and the client's types are both made of these."""

from service.wire.responses.domains import AdapterCard, Domain, Job, RolledBack
from service.wire.responses.items import ImportReport, Item, RejectedKind, RejectedRow, RowsWarning
from service.wire.responses.operations import (
    Alive,
    DomainMemory,
    Info,
    LoadedBackbone,
    Readiness,
    StateInfo,
)
from service.wire.responses.questions import (
    Arm,
    Comparison,
    Embedded,
    Evaluated,
    Fallback,
    FallbackReason,
    Moved,
    ProbeCount,
    Recommendation,
    RecommendedItem,
    Similar,
    SimilarItem,
    Timing,
)
from service.wire.responses.shared import Identity, Page, VersionName

__all__ = [
    "AdapterCard",
    "Alive",
    "Arm",
    "Comparison",
    "Domain",
    "DomainMemory",
    "Embedded",
    "Evaluated",
    "Fallback",
    "FallbackReason",
    "Identity",
    "ImportReport",
    "Info",
    "Item",
    "Job",
    "LoadedBackbone",
    "Moved",
    "Page",
    "ProbeCount",
    "Readiness",
    "Recommendation",
    "RecommendedItem",
    "RejectedKind",
    "RejectedRow",
    "RolledBack",
    "RowsWarning",
    "Similar",
    "SimilarItem",
    "StateInfo",
    "Timing",
    "VersionName",
]
