"""Settings of the whole process: an app that is embedded or tested leaves them alone."""

from __future__ import annotations

import gc
import sys

import torch

from service.catalog.index import use_one_thread

SWITCH_INTERVAL_S = 0.00005
"""A request takes the interpreter's lock several times;
beside a thread that computes it would wait 5 ms each time.
"""


def tune(threads: int) -> None:
    """Give torch its threads and FAISS one, and let threads take turns often."""
    torch.set_num_threads(threads)
    use_one_thread()
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def freeze_objects() -> None:
    """Keep what was loaded out of garbage collection,
    which would stop requests for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
