"""Reading the first bytes of a database that this process has open, without taking SQLite's locks
from it.

POSIX drops all of a process's locks on a file as soon as any descriptor of the file is closed.
Another process that closes the database would then take the write-ahead log for one that nobody
uses and remove it, with every commit that is not yet in the file. So all users in this process
share one descriptor, closed with the last of them.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

MAGIC = b"SQLite format 3\0"

Identity = tuple[int, int]
"""Device and inode number."""

_lock = threading.Lock()
_descriptors: dict[Identity, int] = {}
_users: Counter[Identity] = Counter()


def hold(path: Path) -> Identity:
    """Keep a file's beginning readable until `release`; returns which file it is."""
    with _lock:
        about = path.stat()
        identity = about.st_dev, about.st_ino
        if identity not in _descriptors:
            _descriptors[identity] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        _users[identity] += 1
    return identity


def release(identity: Identity) -> None:
    """Give up a file, after the last of the user's connections to it was closed."""
    with _lock:
        _users[identity] -= 1
        if _users[identity]:
            return
        del _users[identity]
        os.close(_descriptors.pop(identity))


def is_intact(identity: Identity) -> bool:
    """Whether a file still begins as a database does;
    so it is taken to where nobody holds it any more.
    """
    with _lock:
        descriptor = _descriptors.get(identity)
        return descriptor is None or os.pread(descriptor, len(MAGIC), 0) == MAGIC
