"""The user encoder in torch: histories of many domains in one batch, each with its own adapter.

Bottlenecks lie in a table and are gathered row by row, for one forward. Adapters of other kinds run
as groups of their own in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from service.engine.engine import History
from service.engine.slots import SlotTable
from transrec.adapters import Adapt
from transrec.arrays import Floats
from transrec.user_encoder import UserEncoder
from transrec.window import pad_left


class BatchForward:
    """Forward passes of one user encoder.

    Args:
        encoder: frozen.
        table: the bottlenecks that histories name by their slots.
        device: where both lie.
    """

    def __init__(self, encoder: UserEncoder, table: SlotTable, device: torch.device) -> None:
        self._encoder = encoder
        self._table = table
        self._device = device

    @torch.inference_mode()
    def encode(self, batch: Sequence[History]) -> Floats:
        """Encode histories to user vectors [B, d]; safe from any thread."""
        window = min(self._encoder.shape.history, max(len(history.rows) for history in batch))
        users = np.empty((len(batch), self._encoder.shape.width), np.float32)
        for places, adapt in self._groups(batch):
            users[places] = self._forward([batch[place] for place in places], window, adapt)
        return users

    def _forward(self, histories: Sequence[History], window: int, adapt: Adapt | None) -> Floats:
        """Run the newest `window` items of histories through the encoder, all with one `adapt`."""
        vectors = np.zeros((len(histories), window, self._encoder.shape.width), np.float32)
        places, mask = pad_left([history.rows for history in histories], window)
        for number, history in enumerate(histories):
            kept = mask[number]
            vectors[number, kept] = history.vectors(places[number, kept])
        inputs = torch.from_numpy(vectors).to(self._device)  # [B, L, d]
        real = torch.from_numpy(mask).to(self._device)  # [B, L]
        found: Floats = self._encoder(inputs, real, adapt, last_only=True).cpu().numpy()
        return found

    def _groups(self, batch: Sequence[History]) -> Iterator[tuple[list[int], Adapt | None]]:
        """Yield the places of rows that run in one forward,
        in the order in which they run, and what adapts them.
        """
        own: dict[int, list[int]] = {}
        gathered = []
        for place, history in enumerate(batch):
            if history.slot.own is None:
                gathered.append(place)
            else:
                own.setdefault(id(history.slot), []).append(place)
        for places in own.values():
            yield places, batch[places[0]].slot.own
        if gathered:
            # Read after the histories: it is at least as new as their slots.
            bank = self._table.bank
            slots = [batch[place].slot.number for place in gathered]
            order, adapt = bank.arrange(slots) if any(slots) else (None, None)
            yield gathered if order is None else [gathered[place] for place in order], adapt
