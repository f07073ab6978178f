"""The activation log: what went live when, appended and synced before the flip is acknowledged.

Every line is a whole standing, so that the last one says all; the lines before it are history, for people.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from adapters_store.files import room_or_error, sync_folder

TAIL = 4096


@dataclass(frozen=True, slots=True)
class Activation:
    """One line of the log: where a domain stands after it. Version None is `none`, the frozen backbone.

    `number` counts the lines. `previous` is what a rollback returns to; where it equals `version` there is nothing
    to return to. `canary` answers `percent` of the users, of none where `percent` is 0; `gate` is what it has to pass
    as long as it does, in the words of whoever recorded it.
    """

    version: int | None
    reason: str
    at: str
    previous: int | None = None
    canary: int | None = None
    percent: int = 0
    number: int = 0
    gate: dict[str, Any] | None = None

    @classmethod
    def at_first(cls) -> Self:
        """Where a domain stands before anything was activated."""
        return cls(None, "created", "")

    def activated(self, version: int | None, reason: str) -> Activation:
        """Make a version live; a canary ends. Of the live version again, what a rollback returns to stays."""
        previous = self.previous if version == self.version else self.version
        return Activation(version, reason, now(), previous, number=self.number + 1)

    def with_canary(
        self, version: int | None, percent: int, reason: str, gate: dict[str, Any] | None = None
    ) -> Activation:
        """Give a percentage of the users to a version; 0 ends the canary."""
        canary, number = version if percent else None, self.number + 1
        return replace(self, canary=canary, percent=percent, reason=reason, at=now(), number=number, gate=gate)

    @property
    def in_use(self) -> dict[int | None, str]:
        """The versions that are kept warm, and as what."""
        warm: dict[int | None, str] = {self.previous: "what a rollback returns to"}
        if self.percent:
            warm[self.canary] = "a canary"
        return {**warm, self.version: "live"}

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def read_log(path: Path) -> list[Activation]:
    """Read the log, oldest first; a last line torn by a crash was never acknowledged and does not count."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return _standings([json.loads(line) for line in content.split(b"\n")[:-1]])


def last_of(path: Path) -> Activation:
    """Return where a domain stands, however long its log is."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return Activation.at_first()
    if not lines:
        return Activation.at_first()
    last = json.loads(lines[-1]) if lines[-1].startswith(b"{") else {}
    return Activation(**last) if "number" in last else read_log(path)[-1]


def append_to_log(path: Path, activation: Activation) -> Activation:
    """Append one activation and sync it; the caller holds the domain's lock.

    Raises:
        OutOfSpace: the log is as it was.
    """
    with path.open("ab+") as file:
        whole = _whole_lines(path)
        file.truncate(whole)
        try:
            with room_or_error(path):
                file.write(json.dumps(activation.to_json()).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(whole)
            raise
    if whole == 0:
        sync_folder(path.parent)
    return activation


def now() -> str:
    """Return the time in UTC, ISO-8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _standings(lines: Sequence[dict[str, Any]]) -> list[Activation]:
    """Complete lines of the first format, which told the version alone."""
    found: list[Activation] = []
    standing = Activation.at_first()
    for line in lines:
        if "number" in line:
            standing = Activation(**line)
        else:
            standing = replace(standing.activated(line["version"], line["reason"]), at=line["at"])
        found.append(standing)
    return found


def _whole_lines(path: Path) -> int:
    """Return where the last whole line ends."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL)
        file.seek(start)
        tail = file.read()
    return start + tail.rfind(b"\n") + 1 if b"\n" in tail else path.read_bytes().rfind(b"\n") + 1
