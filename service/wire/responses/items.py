"""Items, and what an import did with them."""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    NotRequired,  # typing's own does not do for pydantic on Python 3.11
)

from pydantic import Field
from typing_extensions import TypedDict


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
