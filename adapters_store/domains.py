"""The folder of a domain: its name, the files in it, and its lock.

The lock is one that the kernel drops when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from adapters_store.errors import InvalidName
from adapters_store.files import room_or_error
from adapters_store.quoting import quote

BUNDLE = "bundle.safetensors"
CARD = "card.json"
DELETED = "deleted"
LOCK = ".lock"
PINNED = "pinned.json"
REMOVING = "removing"
"""Says since when a domain is being removed."""

_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_domain_name(name: str) -> str:
    """Return the name if it is one; it becomes the name of a folder.

    Raises:
        InvalidName: saying what a name looks like.
    """
    if not _DOMAIN.fullmatch(name):
        raise InvalidName(
            f"domain name {quote(name)}: expected 1 to 63 of a-z 0-9 . - _, beginning with a letter"
            " or digit"
        )
    return name


def domains_in(folder: Path) -> list[str]:
    """Name the domains of a store's folder, which need not be there; nothing is opened or made."""
    if not folder.is_dir():
        return []
    there = (path for path in folder.iterdir() if _DOMAIN.fullmatch(path.name) and path.is_dir())
    return sorted(
        path.name for path in there if any(entry.name != LOCK for entry in path.iterdir())
    )


@contextmanager
def lock_domain(home: Path) -> Iterator[None]:
    """Hold the lock of a domain's folder, which is made where it is not there.

    Raises:
        OutOfSpace: no room for the folder or the lock.
    """
    while True:
        with room_or_error(home):
            home.mkdir(exist_ok=True)
            try:
                lock = (home / LOCK).open("w")
            except FileNotFoundError:  # the domain was removed in between
                continue
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_file_at(lock, home / LOCK):
                yield
                return


def _is_file_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at its path:
    a removed domain's lock is another file.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), found)
