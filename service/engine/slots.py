"""Rows of a table of bottleneck adapters, used again only when nobody holds them any more."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from queue import SimpleQueue

import torch

from transrec.adapters import Adapt, AdapterBank, SideAdapter, SideShape, gathers
from transrec.seam import Encoder

MIN_WIDEST = 64
"""Bottlenecks up to this hidden size,
or a quarter of the encoder's width, are gathered in the table.
"""


class Slot:
    """An adapter that somebody holds: a row of the table, or one that runs on its `own`."""

    __slots__ = ("__weakref__", "number", "own")

    def __init__(self, number: int, own: Adapt | None = None) -> None:
        self.number = number
        self.own = own


class SlotTable:
    """The adapters of one encoder's side in one dtype; it grows by doubling and shrinks when its
    rows are free again.

    Every row is as wide as the widest adapter in the table, and every batch reads rows of that
    width. So that one domain cannot slow down the others, wider adapters stay outside and run as
    groups of their own.

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
        self.widest = max(MIN_WIDEST, shape.width // 4)
        self._min_slots = slots
        self._hidden: dict[int, int] = {}
        self._released: deque[int] = deque()
        self._none = Slot(0)
        self._writing = threading.Lock()
        _TRIMMER.start()

    @property
    def in_use(self) -> int:
        """Adapters in the table."""
        return len(self._hidden) - len(self._released)

    def take(self, adapter: SideAdapter | None) -> Slot:
        """Write bottlenecks into a free row,
        keep others as they are; safe from any thread while batches run.
        """
        if adapter is None or not adapter.layers:
            return self._none
        if not gathers(adapter) or adapter.spec.hidden > self.widest:
            return Slot(0, adapter.for_serving(self._encoder))
        with self._writing:
            self._reclaim()
            number = self._reserve(adapter.spec.hidden)
            self.bank.write(number, adapter)
        slot = Slot(number)
        weakref.finalize(slot, self._release, number).atexit = False
        return slot

    def trim(self) -> None:
        """Clear the rows that are free again,
        and halve the table, or more, where what is left allows it.
        """
        with self._writing:
            self._reclaim()
            slots = self._min_slots
            while slots <= max(self._hidden, default=0):
                slots *= 2
            hidden = max(self._hidden.values(), default=1)
            if 2 * slots * hidden <= self.bank.slots * self.bank.hidden:
                self.bank = self.bank.resized(slots, hidden)

    def _release(self, number: int) -> None:
        # This may run inside the garbage collector, in any thread: no lock is taken here.
        self._released.append(number)
        _TRIMMER.wake(self)

    def _reclaim(self) -> None:
        while self._released:
            number = self._released.popleft()
            del self._hidden[number]
            self.bank.write(number, None)

    def _reserve(self, hidden: int) -> int:
        """Return the lowest free row, of a table that is wide enough;
        a batch that runs keeps the table it read.
        """
        bank = self.bank
        number = next(row for row in range(1, bank.slots + 1) if row not in self._hidden)
        slots = bank.slots if number < bank.slots else bank.slots * 2
        if (slots, hidden) != (bank.slots, min(hidden, bank.hidden)):
            self.bank = bank.resized(slots, max(hidden, bank.hidden))
        self._hidden[number] = hidden
        return number


class _Trimmer:
    """A thread that trims tables after rows were released; it starts when the first one is."""

    def __init__(self) -> None:
        # Its `put` may be interrupted by another one in the same thread, as finalizers do.
        self._waiting: SimpleQueue[weakref.ref[SlotTable]] = SimpleQueue()
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        with self._starting:
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="trimmer", daemon=True).start()

    def wake(self, table: SlotTable) -> None:
        self._waiting.put(weakref.ref(table))

    def _run(self) -> None:
        while True:
            table = self._waiting.get()()
            if table is not None:
                table.trim()
            del table


_TRIMMER = _Trimmer()
