"""What one check of the doctor found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

FindingState = Literal["ok", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `advice` says what to do, and is empty where all is well."""

    state: FindingState
    what: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """Return plain JSON."""
        return asdict(self)
