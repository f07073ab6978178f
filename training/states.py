"""Where training begins: states of items below whatever trains, and the layers above them.

Whatever lies below the reach of an adapter never changes during a run. Where it reaches no state
that is the pooled output, or what a `side` tower reads; below a houlsby adapter it is the input of
the first adapted block and the output of that block's attention (the adapter sits after it); below
a lora adapter, which changes the attention, the input alone. A run then pays for the layers above
only. `state_cache` computes these states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from transrec.adapters import Adapt, Reach, unchanged
from transrec.arrays import Integers
from transrec.gpu import is_fast
from transrec.inputs import Loads, PairInputs, TextInputs, batches
from transrec.item_encoder import FrozenPrefix, ItemEncoder
from transrec.packing import PAD, Packing, Rows
from transrec.pair_encoder import PairEncoder, concat_states
from transrec.seam import MODALITIES

BUCKET_TOKENS = 4
"""Token lengths are rounded up to this in training batches: few groups, few pads."""
ROWS_STEP = 16
"""A recorded step has a multiple of so many packed rows, so that few shapes occur."""


class ItemStates(Protocol):
    """Where training begins: rows of the catalog ->
    pooled encoder output, through whatever trains.
    """

    def pooled(self, rows: Integers, adapt: Adapt | None) -> Tensor:
        """Return [m, H], or [m, S, H] for a tower,
        for distinct `rows [m]`, differentiable in the adapter.
        """
        ...


@dataclass(frozen=True, slots=True)
class PooledStates:
    """The frozen encoder's pooled output [n, H], or the states [n, S, H] that a tower reads."""

    table: Tensor
    starts: Integers

    def pooled(self, rows: Integers, _adapt: Adapt | None) -> Tensor:
        """Look up; only the rows asked for become float32."""
        return self.table[torch.from_numpy(self.starts[rows]).to(self.table.device)].float()

    def arrays(self, rows: Integers, count: int) -> list[Integers]:
        """Return what `run` reads for `rows`, padded to `count` of them."""
        return [self.starts[np.concatenate([rows, np.full(count - len(rows), rows[0])])]]

    def run(self, arrays: Sequence[Tensor], _adapt: Adapt | None) -> Tensor:
        """Look up."""
        return self.table[arrays[0]].float()


@dataclass(frozen=True, slots=True)
class PrefixStates:
    """Token states below an adapter's reach: `table [Σ T, 2, H]`, item i at `starts[i] : starts[i +
    1]`.

    Where the attention of the first adapted block is adapted too, the table is `[Σ T, 1, H]`.
    """

    encoder: ItemEncoder
    reach: Reach
    table: Tensor
    starts: Integers

    def pooled(self, rows: Integers, adapt: Adapt | None) -> Tensor:
        """Run the layers from the first adapted one on:
        in buckets of similar length, or packed on a GPU.
        """
        lengths = self.starts[rows + 1] - self.starts[rows]
        if is_fast(self._device) and (adapt or unchanged).packs and lengths.min() < lengths.max():
            return self.encoder.suffix(self.packed(rows, lengths), self.reach.layer, adapt)
        parts = []
        places = []
        for chosen, width in length_buckets(lengths):
            prefix = self._gather(rows[chosen], lengths[chosen], width)
            parts.append(self.encoder.suffix(prefix, self.reach.layer, adapt))
            places.append(chosen)
        return _in_order(parts, places)

    def packed(self, rows: Integers, lengths: Integers) -> FrozenPrefix:
        """Return the states of texts of any length side by side."""
        fitted = Rows.fit(lengths)
        owners, positions, _ = fitted.tokens()
        wanted = self.starts[rows][owners] + positions
        # Where there is a pad, the state of some token stands: nothing reads it.
        index, packing = Packing.of(fitted, wanted, int(wanted[0]), self._device)
        states = self._look_up(index)  # [R, W, 2 or 1, H]
        return FrozenPrefix(
            states[:, :, 0], states[:, :, 1] if self.reach.attention else None, packing
        )

    def arrays(self, rows: Integers, count: int) -> list[Integers]:
        """Return what `run` reads for `rows`,
        padded to `count` of them and a multiple of `ROWS_STEP` packed rows.
        """
        lengths = self.starts[rows + 1] - self.starts[rows]
        fitted = Rows.fit(lengths)
        text, position, place = fitted.tokens()
        wide = fitted.padded(count, ROWS_STEP)
        index = np.full((wide.count, wide.width), self.starts[rows[0]])
        owners = np.full((wide.count, wide.width), PAD)
        index.reshape(-1)[place] = self.starts[rows][text] + position
        owners.reshape(-1)[place] = text
        return [index, owners, wide.starts, wide.lengths]

    def run(self, arrays: Sequence[Tensor], adapt: Adapt | None) -> Tensor:
        """Run the layers from the first adapted one on, packed."""
        index, owners, starts, lengths = arrays
        # Positions matter to embeddings only, which lie below.
        packing = Packing(owners, owners, starts, lengths, owners.shape[1])
        states = self._look_up(index)  # [R, W, 2 or 1, H]
        prefix = FrozenPrefix(
            states[:, :, 0], states[:, :, 1] if self.reach.attention else None, packing
        )
        return self.encoder.suffix(prefix, self.reach.layer, adapt)

    @property
    def _device(self) -> torch.device:
        return self.encoder.norm.weight.device

    def _look_up(self, index: Tensor) -> Tensor:
        found = self.table[index.to(self.table.device)]
        return found.to(self._device).float()

    def _gather(self, rows: Integers, lengths: Integers, width: int) -> FrozenPrefix:
        offsets = np.arange(width)
        real = offsets < lengths[:, None]
        index = self.starts[rows][:, None] + np.minimum(offsets, lengths[:, None] - 1)
        states = self._look_up(torch.from_numpy(index))  # [m, T, 2 or 1, H]
        mask = None if real.all() else torch.from_numpy(real).to(self._device)
        return FrozenPrefix(
            states[:, :, 0], states[:, :, 1] if self.reach.attention else None, mask
        )


@dataclass(frozen=True, slots=True)
class InputStates:
    """Nothing is frozen: inputs run through the whole encoder."""

    encoder: ItemEncoder
    inputs: Loads

    def pooled(self, rows: Integers, adapt: Adapt | None) -> Tensor:
        """Encode distinct items, in batches of one length."""
        device = self.encoder.norm.weight.device
        if isinstance(self.inputs, TextInputs) and is_fast(device) and (adapt or unchanged).packs:
            return self.encoder(self.inputs.packed(rows, device), adapt)  # type: ignore[no-any-return]
        parts = []
        places = []
        order = {int(row): place for place, row in enumerate(rows)}
        for chosen in batches(self.inputs, rows):
            parts.append(self.encoder(self.inputs.load(chosen, device), adapt))
            places.append(np.array([order[int(row)] for row in chosen], np.int64))
        return _in_order(parts, places)


@dataclass(frozen=True, slots=True)
class PairStates:
    """States of a pair of encoders: each item's of text
    and of image side by side, zeros where one is missing.
    """

    encoder: PairEncoder
    inputs: PairInputs
    sides: tuple[ItemStates, ItemStates]

    def pooled(self, rows: Integers, adapt: Adapt | None) -> Tensor:
        """Return [m, W_t + W_i]."""
        adapt = adapt or unchanged
        parts: list[Tensor | None] = []
        there = (self.inputs.has_text, self.inputs.has_image)
        widths = self.encoder.widths(adapt)
        for states, has, width, modality in zip(self.sides, there, widths, MODALITIES, strict=True):
            places = np.flatnonzero(has[rows])
            if len(places) == 0:
                parts.append(None)
                continue
            found = states.pooled(rows[places], adapt.part(modality)).flatten(1)
            whole = found.new_zeros(len(rows), width)
            parts.append(whole.index_copy(0, torch.from_numpy(places).to(found.device), found))
        return concat_states(parts[0], parts[1], widths)


def length_buckets(lengths: Integers) -> Iterator[tuple[Integers, int]]:
    """Yield places of similar length and the width that holds them."""
    rounded = np.where(lengths == 1, 1, -(-lengths // BUCKET_TOKENS) * BUCKET_TOKENS)
    for width in np.unique(rounded):
        chosen = np.flatnonzero(rounded == width)
        yield chosen, int(lengths[chosen].max())


def _in_order(parts: list[Tensor], places: list[Integers]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    back = np.argsort(np.concatenate(places), kind="stable")
    return torch.cat(parts).index_select(0, torch.from_numpy(back).to(parts[0].device))
