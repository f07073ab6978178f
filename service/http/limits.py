"""What a connection may hold, and how slow it may be."""

from __future__ import annotations

from dataclasses import dataclass

CHECKS_A_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection, and how many there may be in one process."""

    connections: int = 4096
    head_bytes: int = 32 * 1024
    head_fields: int = 100
    line_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    body_bytes_per_second: int = 240
    write_seconds: float = 30.0

    @property
    def check_seconds(self) -> float:
        """How often a connection looks at its clocks."""
        return min(self.head_seconds, self.body_seconds, self.write_seconds) / CHECKS_A_LIMIT
