"""What the processes of a service take in memory, as the kernel counts it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def family(pid: int) -> list[int]:
    """Return a process and all that it started, those that run now."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(FileNotFoundError):  # it ended meanwhile
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def pss(pid: int) -> int:
    """Return the bytes of a process and all that it started;
    pages that several of them map count once.
    """
    return sum(_field(Path(f"/proc/{one}/smaps_rollup"), "Pss") for one in family(pid))


def resident(pid: int) -> int:
    """Return the bytes of a process and all that it
    started that are in memory, mapped files among them.
    """
    return sum(_field(Path(f"/proc/{one}/smaps_rollup"), "Rss") for one in family(pid))


def own(pid: int) -> int:
    """Return the bytes that one process has in memory
    and no file has: what the kernel cannot drop.
    """
    return _field(Path(f"/proc/{pid}/status"), "RssAnon")


def _field(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
