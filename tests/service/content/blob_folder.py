"""A folder of pictures: what is in it, and how time passes for it."""

from __future__ import annotations

import os
from pathlib import Path

from service.content.blobs import GRACE_S, Blobs


def kept(folder: Path) -> set[str]:
    """Digests of the pictures that are there."""
    return {path.name for path in folder.glob("??/*") if not path.name.startswith(".")}


def age(folder: Path, seconds: float = GRACE_S + 1) -> None:
    """Let time pass for everything that lies in a folder of pictures."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def swept(blobs: Blobs, folder: Path, *named: str) -> set[str]:
    """Sweep after a grace period in which nothing happened; returns what is there then."""
    age(folder)
    blobs.sweep(lambda: named)
    return kept(folder)
