"""Files damaged as operators and disks do."""

from __future__ import annotations

from pathlib import Path


def harm(path: Path, how: str) -> None:
    """Damage a file: deleted, emptied, zeroed, cut, or garbage."""
    content = path.read_bytes()
    damaged = {
        "emptied": b"",
        "zeroed": bytes(len(content)),
        "cut": content[: len(content) // 2 + 3],
    }
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(damaged.get(how, b"garbage\n"))
