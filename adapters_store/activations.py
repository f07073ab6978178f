"""The activation log: what went live when, appended and synced before the flip is acknowledged.

Every line is complete, so that the last one says all; the lines before it are the history, which
rollbacks walk. A second file, `current.json`, holds a copy of the last line: if the log is deleted,
emptied or cut, the copy has what was acknowledged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from adapters_store.clock import now
from adapters_store.errors import OutOfSpace
from adapters_store.files import atomic_write, room_or_error, sync_folder

LOG = "activations.jsonl"
COPY = "current.json"
TAIL = 4096
ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Activation:
    """One line of the log: which versions of a domain are in use after it. Version None is `none`,
    the frozen backbone.

    `number` counts the lines. `previous` is what a rollback returns to; where it equals `version`
    there is nothing to return to. `canary` answers `percent` of the users, of none where `percent`
    is 0; `gate` is what it has to pass as long as it does, in the words of whoever recorded it.
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
        """Return the state of a domain before its first activation."""
        return cls(None, "created", "")

    def activated(self, version: int | None, reason: str) -> Activation:
        """Make a version live; a canary ends.

        Of the live version again, what a rollback returns to stays.
        """
        previous = self.previous if version == self.version else self.version
        return Activation(version, reason, now(), previous, number=self.number + 1)

    def rolled_back(self, version: int | None, further: int | None) -> Activation:
        """Return to an earlier version; `further` is what the
        next rollback returns to, `version` if there is none.
        """
        return replace(self.activated(version, ROLLBACK), previous=further)

    def with_canary(
        self, version: int | None, percent: int, reason: str, gate: dict[str, Any] | None = None
    ) -> Activation:
        """Give a percentage of the users to a version; 0 ends the canary."""
        canary = version if percent else None
        number = self.number + 1
        return replace(
            self, canary=canary, percent=percent, reason=reason, at=now(), number=number, gate=gate
        )

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
    """Read the log, oldest first, without unreadable lines;
    a torn last line was never acknowledged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return _parse_lines(content.split(b"\n")[:-1])


def read_current(home: Path) -> Activation | None:
    """Return the newest activation that the log or its copy has, however long the log is.

    Returns:
        None where neither tells what is live: both are missing or damaged.
    """
    last = _last_line(home / LOG)
    copy = read_copy(home)
    if last is None or (copy is not None and copy.number > last.number):
        return copy
    return last


def read_copy(home: Path) -> Activation | None:
    """Return the copy of the log's last line, None where it is missing or damaged."""
    try:
        return Activation(**json.loads((home / COPY).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_copy(home: Path, activation: Activation) -> None:
    """Keep a copy of the log's last line; where that fails no stale copy stays."""
    try:
        atomic_write(home / COPY, json.dumps(activation.to_json()).encode())
    except (OutOfSpace, OSError):
        (home / COPY).unlink(missing_ok=True)


def complete_copy(home: Path) -> None:
    """Copy the current activation where no copy of it can be read."""
    if read_copy(home) is None:
        write_copy(home, read_current(home) or Activation.at_first())


def record(home: Path, activation: Activation) -> Activation:
    """Append to the log and copy the line; a line that only the copy has is appended before.

    Raises:
        OutOfSpace: the log is as it was.
    """
    last = _last_line(home / LOG)
    copy = read_copy(home)
    if copy is not None and copy.number > (0 if last is None else last.number):
        append_to_log(home / LOG, copy)
    append_to_log(home / LOG, activation)
    write_copy(home, activation)
    return activation


def versions_before(history: Sequence[Activation]) -> list[int | None]:
    """Return the versions that a series of rollbacks returns to, the next one first.

    A rollback leaves the history, as an undo does: what was rolled back from is not returned to,
    until it is activated again.
    """
    path: list[int | None] = [history[0].previous] if history else []
    for line in history:
        if line.version == path[-1]:
            continue
        if line.reason == ROLLBACK and line.version in path:
            while path[-1] != line.version:
                path.pop()
        else:
            path.append(line.version)
    return path[-2::-1]


def find_returns(
    current: Activation, history: Sequence[Activation], has: Callable[[int], bool]
) -> tuple[list[int | None], list[int]]:
    """Return what rollbacks return to, the next one first, and the deleted versions that the next
    one skips.

    Args:
        current: the newest activation, which a log that lost lines does not have.
        history: the log.
        has: whether a version was not deleted.
    """
    if not history or history[-1].number != current.number:  # the log lost lines
        history = [current]
    there: list[int | None] = []
    skipped: list[int] = []
    for version in versions_before(history):
        if version is None or has(version):
            if version != (there[-1] if there else current.version):
                there.append(version)
        elif not there:
            skipped.append(version)
    return there, skipped


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


def _last_line(path: Path) -> Activation | None:
    """Return the log's last whole line, None where there is none or it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    if not lines:
        return None
    last = _parse(lines[-1])
    if last is not None and "number" in last:
        return Activation(**last)
    content = path.read_bytes().split(b"\n")[:-1]
    return _parse_lines(content)[-1] if _parse(content[-1]) is not None else None


def _parse_lines(lines: Sequence[bytes]) -> list[Activation]:
    """Read lines, and complete those of the first format, which had the version alone."""
    found: list[Activation] = []
    current = Activation.at_first()
    for line in filter(None, map(_parse, lines)):
        if "number" in line:
            current = Activation(**line)
        else:
            current = replace(current.activated(line["version"], line["reason"]), at=line["at"])
        found.append(current)
    return found


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return (
        value if isinstance(value, dict) and {"version", "reason", "at"} <= value.keys() else None
    )


def _whole_lines(path: Path) -> int:
    """Return where the last whole line ends."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL)
        file.seek(start)
        tail = file.read()
    return start + tail.rfind(b"\n") + 1 if b"\n" in tail else path.read_bytes().rfind(b"\n") + 1
