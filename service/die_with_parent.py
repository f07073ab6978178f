"""A process that ends when its parent does, also where that is killed."""

from __future__ import annotations

import ctypes
import os
import signal

_SET_DEATH_SIGNAL = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process with its parent."""
    ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), signal.SIGTERM)
