"""Files that appear whole or not at all: write a temporary file, sync, rename, sync the folder."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters_store.errors import OutOfSpace

PART = ".part"


@contextmanager
def room_or_error(where: Path) -> Iterator[None]:
    """Turn a full disk or quota into OutOfSpace."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutOfSpace(f"no room left on the disk of {where}: free some space and try again") from error
        raise


def atomic_write(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file so that a crash leaves the old one or the new one; `mode` is narrowed by the umask.

    Raises:
        OutOfSpace: the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        with room_or_error(path), open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
