"""Files that appear whole or not at all:
write a temporary sibling, sync, rename, sync the folder.
"""

from __future__ import annotations

import errno
import hashlib
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
            raise OutOfSpace(
                f"no room left on the disk of {where}: free some space and try again"
            ) from error
        raise


def atomic_write(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file so that a crash leaves the old one or the new one; `mode` is narrowed by the
    umask.

    Raises:
        OutOfSpace: the disk is full; nothing is left behind.
    """
    with (
        room_or_error(path),
        atomic_file(path) as part,
        open(part, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file,
    ):
        file.write(content)


@contextmanager
def atomic_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a place to write a file at; the file is renamed to `path` once the block ends without an
    error.

    Args:
        path: of the file; its folder is made.
        sync: whether the file survives a power cut from then on. Derived files need not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        yield part
        if sync:
            sync_file(part)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
