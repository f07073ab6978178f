"""How a domain is removed: a mark in its folder,
by which an interrupted removal goes on, then all the rest.
"""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path

from adapters_store.clock import now
from adapters_store.domains import LOCK, REMOVING
from adapters_store.errors import OutOfSpace
from adapters_store.files import atomic_write, sync_folder
from adapters_store.lost_log import unmark


def begin_removal(home: Path) -> None:
    """Mark a domain's folder, if there is room: a removal is what makes room."""
    with suppress(OutOfSpace):
        atomic_write(home / REMOVING, now().encode())


def half_removed(folder: Path) -> list[str]:
    """Name the domains of a store's folder whose removal was begun and has not ended."""
    return [path.parent.name for path in sorted(folder.glob(f"*/{REMOVING}"))]


def clear(home: Path) -> None:
    """Remove a domain's folder, the mark of its removal
    and its lock last; the caller holds the lock.
    """
    unmark(home)
    for path in home.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOCK, REMOVING):
            path.unlink()
    for name in (REMOVING, LOCK):
        (home / name).unlink(missing_ok=True)
    try:
        home.rmdir()
    except OSError as error:
        # Somebody who waited to write made a lock anew: the fence stops it, or it writes for the
        # next domain.
        if error.errno != errno.ENOTEMPTY:
            raise
    sync_folder(home.parent)
