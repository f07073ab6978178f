"""The engine in torch, on any of its devices."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from service.engine.engine import Found, History
from service.engine.forward import BatchForward
from service.engine.queue import QueryQueue
from service.engine.slots import Slot, SlotTable
from transrec.adapters import SideAdapter
from transrec.arrays import Floats
from transrec.backbone import Backbone


class TorchEngine:
    """An `Engine` of a queue, batched forwards and a table of adapters.

    Args:
        backbone: frozen.
        slots: adapters the table begins with; it doubles when they are taken.
        max_queue: queries that may wait.
        observe: receives the rows and the number of different adapters of each batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        slots: int,
        max_queue: int,
        observe: Callable[[int, int], None] | None = None,
    ) -> None:
        encoder = backbone.model.user_encoder
        self.backbone = backbone
        self._table = SlotTable(encoder, backbone.shape.user, slots, backbone.device)
        self._forward = BatchForward(encoder, self._table, backbone.device)
        self._queue = QueryQueue(self._forward.encode, max_queue, observe)

    @property
    def slots_in_use(self) -> int:
        """Adapters in the table."""
        return self._table.in_use

    def take_slot(self, adapter: SideAdapter | None) -> Slot:
        """Write a user side into the table,
        or keep it beside the table if its kind cannot be gathered.
        """
        return self._table.take(adapter)

    def encode(self, batch: Sequence[History]) -> Floats:
        """Encode histories to user vectors [B, d], in this thread and without the queue."""
        return self._forward.encode(batch)

    def query(self, history: History, k: int) -> Coroutine[Any, Any, Found]:
        """Queue a history for the next batch: scores and rows of its best k items, best first."""
        return self._queue.query(history, k)
