"""What operators and orchestrators are answered."""

from __future__ import annotations

from typing import (
    Annotated,
    Literal,
    NotRequired,  # typing's own does not do for pydantic on Python 3.11
)

from pydantic import Field
from typing_extensions import TypedDict

from service.wire.responses.shared import VersionName


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
