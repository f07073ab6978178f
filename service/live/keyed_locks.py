"""Keyed locks: one lock per domain, which exists while it is held or waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from weakref import WeakValueDictionary

Lock = AbstractContextManager[bool]
"""What `threading.RLock` makes: the type of it has no name."""


class KeyedLocks:
    """Reentrant locks by name."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._finding = threading.Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Hold the lock of a name."""
        with self._finding:
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = threading.RLock()
        with lock:
            yield
