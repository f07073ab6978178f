"""Versions of a domain's adapter, as they are named everywhere."""

from __future__ import annotations

from typing import Final, Literal

NONE: Final = "none"

Version = int | None
"""None is `none`, the frozen backbone."""


def version_name(version: Version) -> int | Literal["none"]:
    """How a version is written in answers."""
    return NONE if version is None else version
