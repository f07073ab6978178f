"""The contract of a user encoder that serves many domains, and what it reads."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.catalog.live_items import LiveItems
from service.engine.slots import Slot
from transrec.adapters import SideAdapter
from transrec.arrays import Floats
from transrec.backbone import Backbone

Found = tuple[Floats, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class History:
    """What is encoded: rows of a value's items, oldest first, and the slot of the adapter that
    encodes them.

    Row −1 − j stands for `fresh[j]`, the vector of an item outside the catalog. `fresh`: [n, d].
    """

    rows: Sequence[int]
    slot: Slot
    items: LiveItems
    fresh: Floats | None = None

    def vectors(self, rows: NDArray[np.int64]) -> Floats:
        """Look up `rows [n]`: vectors [n, d]."""
        if self.fresh is None:
            return self.items.vectors(rows)
        own = rows < 0
        found = np.empty((len(rows), self.items.width), np.float32)
        found[~own] = self.items.vectors(rows[~own])
        found[own] = self.fresh[-1 - rows[own]]
        return found


class Engine(Protocol):
    """One backbone's user encoder with the adapters that are in use.

    Vectors are float32 of the backbone's width d, rows int64. One history's answer never depends on
    the other histories in its batch, save for rounding.
    """

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone whose user encoder runs."""

    @property
    def slots_in_use(self) -> int:
        """Adapters that share the engine's table."""

    def take_slot(self, adapter: SideAdapter | None) -> Slot:
        """Copy the weights of a user side into a slot; None is the encoder without an adapter.

        The slot is free again when its last reference is gone. Safe from any thread, also while
        batches run.
        """

    def encode(self, batch: Sequence[History]) -> Floats:
        """Encode the newest items of each history to user vectors [B, d].

        A vector may hold infinities or NaN where an adapter's weights overflow. The caller waits
        for the result. Safe from any thread.
        """

    def query(self, history: History, k: int) -> Coroutine[Any, Any, Found]:
        """Encode a history and search its items: scores [n] and rows [n], best first, n ≤ k.

        Called on the event loop, always on the same one.

        Raises:
            QueueFull: too many queries wait; FloatingPointError: the adapter's weights overflow on
                this history.
        """
