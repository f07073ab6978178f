"""Rows of a table of bottleneck adapters, used again only when nobody holds them any more."""

from __future__ import annotations

import threading
import weakref
from collections import deque

import torch

from transrec.adapters import Adapt, AdapterBank, SideAdapter, SideShape, gathers
from transrec.seam import Encoder


class Slot:
    """An adapter that somebody holds: a row of the table, or one that runs on its `own`."""

    __slots__ = ("__weakref__", "number", "own")

    def __init__(self, number: int, own: Adapt | None = None) -> None:
        self.number, self.own = number, own


class SlotTable:
    """The adapters of one encoder's side in one dtype; it doubles when all rows are taken.

    Args:
        encoder: whose adapters they are.
        shape: its sizes.
        slots: rows the table begins with; row 0 stays zeros, which is none.
        device: where it lies.
        dtype: of its weights.
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: SideShape,
        slots: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._encoder = encoder
        self.bank = AdapterBank(shape.layers, shape.width, 1, slots).to(device, dtype)
        self._free = deque(range(1, slots))
        self._none = Slot(0)
        self._writing = threading.Lock()

    @property
    def in_use(self) -> int:
        """Adapters in the table."""
        return self.bank.slots - 1 - len(self._free)

    def take(self, adapter: SideAdapter | None) -> Slot:
        """Write bottlenecks into a free row, keep others as they are; safe from any thread while batches run."""
        if adapter is None or not adapter.layers:
            return self._none
        if not gathers(adapter):
            return Slot(0, adapter.for_serving(self._encoder))
        with self._writing:
            if not self._free or adapter.spec.hidden > self.bank.hidden:
                self._grow(adapter.spec.hidden)
            number = self._free.popleft()
            self.bank.write(number, adapter)
        slot = Slot(number)
        weakref.finalize(slot, self._free.append, number).atexit = False
        return slot

    def _grow(self, hidden: int) -> None:
        """Make a larger table beside and switch; a batch that runs keeps the one it read."""
        old = self.bank
        slots = old.slots if self._free else old.slots * 2
        bank = old.resized(slots, max(hidden, old.hidden))
        self.bank = bank
        self._free.extend(range(old.slots, slots))
