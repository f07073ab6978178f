"""The activation log: what went live when, appended and synced before the flip is acknowledged."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters_store.files import room_or_error, sync_folder


@dataclass(frozen=True, slots=True)
class Activation:
    """One line of the log; version None is `none`, the frozen backbone."""

    version: int | None
    reason: str
    at: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def read_log(path: Path) -> list[Activation]:
    """Read the log, oldest first; a last line torn by a crash was never acknowledged and does not count."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return [Activation(**json.loads(line)) for line in content.split(b"\n")[:-1]]


def append_to_log(path: Path, version: int | None, reason: str) -> Activation:
    """Append one activation and sync it; the caller holds the domain's lock.

    Raises:
        OutOfSpace: the log is as it was.
    """
    activation = Activation(version, reason, now())
    with path.open("ab+") as file:
        file.seek(0)
        whole = _whole_lines(file.read())
        file.truncate(whole)
        try:
            with room_or_error(path):
                file.write(json.dumps(activation.to_json()).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(whole)
            raise
    sync_folder(path.parent)
    return activation


def now() -> str:
    """Return the time in UTC, ISO-8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _whole_lines(content: bytes) -> int:
    return content.rfind(b"\n") + 1
