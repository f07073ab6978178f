"""What several answers have in common."""

from __future__ import annotations

from typing import (
    Generic,
    Literal,
    TypeVar,
)

from typing_extensions import TypedDict

T = TypeVar("T")
VersionName = int | Literal["none"]


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
