"""What comes in over HTTP; the OpenAPI document is made of these."""

from service.wire.requests.domains import (
    ActivateRequest,
    DomainBody,
    GateBody,
    PinBody,
)
from service.wire.requests.fields import (
    MAX_ATTRIBUTES_BYTES,
    MAX_IMAGE_B64,
    MAX_PROBES,
    Body,
)
from service.wire.requests.items import (
    ItemBody,
    ItemPatch,
)
from service.wire.requests.questions import (
    CompareRequest,
    EmbedRequest,
    EvaluateRequest,
    Exclude,
    HistoryItem,
    HistoryRequest,
    ProbeBody,
    RawItem,
    RecommendRequest,
    SimilarRequest,
    StrategyArm,
    VersionArm,
)

__all__ = [
    "MAX_ATTRIBUTES_BYTES",
    "MAX_IMAGE_B64",
    "MAX_PROBES",
    "ActivateRequest",
    "Body",
    "CompareRequest",
    "DomainBody",
    "EmbedRequest",
    "EvaluateRequest",
    "Exclude",
    "GateBody",
    "HistoryItem",
    "HistoryRequest",
    "ItemBody",
    "ItemPatch",
    "PinBody",
    "ProbeBody",
    "RawItem",
    "RecommendRequest",
    "SimilarRequest",
    "StrategyArm",
    "VersionArm",
]
