"""What is set of domains and versions."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    ConfigDict,
    Field,
)

from service.wire.requests.fields import Body, WholeNumber

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


class DomainBody(Body):
    """What can be set of a domain."""

    title: str = Field("", max_length=200)
    backbone: str | None = Field(
        None,
        description=(
            "Fingerprint, its beginning, or the folder's name; needed where several are loaded."
        ),
    )
