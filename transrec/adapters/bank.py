"""The table in which the bottlenecks of many domains are gathered for the rows of one batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transrec.adapters.bottlenecks import PLAIN, Bottleneck, Bottlenecks, Compacter
from transrec.adapters.side import SideAdapter
from transrec.adapters.spec import SideShape
from transrec.seam import PLACES, Adapt, Place


class AdapterBank(nn.Module):
    """A fixed table of bottleneck adapters of one side; rows of a batch gather their own.

    A slot of zeros is `none`: `U σ(0) + 0` adds nothing. Smaller hidden sizes and missing places
    are zero-padded, which is exact since σ(0) = 0. Tables are `[slots, H, r]` and `[slots, r, H]`
    by layer and place, so that what is gathered multiplies without a transpose, and each lies by
    itself: strided ones multiply half as fast.
    """

    def __init__(self, layers: int, width: int, hidden: int, slots: int) -> None:
        super().__init__()
        self.layers = layers
        self.width = width
        self.hidden = hidden
        self.slots = slots
        places = layers * 2
        self.down = nn.Buffer(torch.zeros(places, slots, width, hidden))
        self.down_bias = nn.Buffer(torch.zeros(places, slots, 1, hidden))
        self.up = nn.Buffer(torch.zeros(places, slots, hidden, width))
        self.up_bias = nn.Buffer(torch.zeros(places, slots, 1, width))
        self.forms = nn.Buffer(torch.zeros(places, slots, len(PLAIN), 1, 1, dtype=torch.bool))
        self.plain = True

    @torch.no_grad()
    def write(self, slot: int, adapter: SideAdapter | None) -> None:
        """Put an adapter into a slot, `None` for zeros. The caller knows that no row in flight uses
        the slot.

        Raises:
            ValueError: the adapter is no set of bottlenecks, or its hidden size is larger than the
                table's.
        """
        for table in (self.down, self.down_bias, self.up, self.up_bias, self.forms):
            table[:, slot].zero_()
        if adapter is not None and adapter.layers:
            self._write(slot, gathered(adapter))
        self.plain = not bool(self.forms.any())

    def _write(self, slot: int, adapter: Bottlenecks) -> None:
        if adapter.spec.hidden > self.hidden:
            raise ValueError(
                f"an adapter of hidden size {adapter.spec.hidden} does not fit a table of"
                f" {self.hidden}"
            )
        for layer in range(self.layers):
            for place in PLACES:
                bottleneck = adapter.bottleneck(layer, place)
                if bottleneck is not None:
                    self._write_place(_row(layer, place), slot, bottleneck)

    def _write_place(self, place: int, slot: int, bottleneck: Bottleneck) -> None:
        used = bottleneck.down.out_features
        self.down[place, slot, :, :used] = bottleneck.down.weight.T
        self.down_bias[place, slot, :, :used] = bottleneck.down.bias
        self.up[place, slot, :used] = bottleneck.up.weight.T
        self.up_bias[place, slot] = bottleneck.up.bias
        self.forms[place, slot] = torch.tensor(bottleneck.form).view(-1, 1, 1)

    def rows(self, index: Tensor) -> Adapt:
        """Return the argument for an encoder whose row b uses
        the adapter in slot `index[b]`; `index` is `[B]`.
        """
        return _Rows(self, index)

    def blocks(self, index: Sequence[int]) -> tuple[list[int], Adapt]:
        """Return an order of the rows, and the argument for an encoder whose rows are in that
        order.

        Rows of one adapter then stand together and its weights are read once for all of them,
        without a copy where the slots are neighbours: for wide encoders, where gathering a copy for
        each row costs more than the product.
        """
        rows_by_slot: dict[int, list[int]] = {}
        for place, slot in enumerate(index):
            rows_by_slot.setdefault(slot, []).append(place)
        ordered = sorted(rows_by_slot.items(), key=lambda entry: (len(entry[1]), entry[0]))
        blocks = []
        start = 0
        for each, group in groupby(ordered, key=lambda entry: len(entry[1])):
            slots = [slot for slot, _ in group]
            blocks.append(_Block(start, each, len(slots), self._select(slots)))
            start += each * len(slots)
        return [place for _, places in ordered for place in places], _Blocks(self, blocks)

    def arrange(self, index: Sequence[int]) -> tuple[list[int] | None, Adapt]:
        """Return what is cheapest for a narrow encoder: blocks where all adapters have equally many
        rows, else rows.

        The order is None where rows stay as they are.
        """
        counts = Counter(index).values()
        if min(counts) == max(counts) > 1:
            return self.blocks(index)
        return None, self.rows(torch.tensor(index, device=self.down.device))

    def _select(self, slots: Sequence[int]) -> slice | Tensor:
        if slots[-1] - slots[0] + 1 == len(slots):
            return slice(slots[0], slots[-1] + 1)
        return torch.tensor(slots, device=self.down.device)

    def places(self) -> list[_Weights]:
        """Return every place's tables [slots, …], as views."""
        forms = self.forms.unbind(0) if not self.plain else [None] * len(self.forms)
        tables = (
            self.down.unbind(0),
            self.down_bias.unbind(0),
            self.up.unbind(0),
            self.up_bias.unbind(0),
            forms,
        )
        return [_Weights(*found) for found in zip(*tables, strict=True)]

    def resized(self, slots: int, hidden: int) -> AdapterBank:
        """Return a table of another size that begins with a copy of this one;
        what does not fit is left out.
        """
        bank = AdapterBank(self.layers, self.width, hidden, slots).to(
            self.down.device, self.down.dtype
        )
        rows = min(slots, self.slots)
        used = min(hidden, self.hidden)
        bank.down[:, :rows, :, :used] = self.down[:, :rows, :, :used]
        bank.down_bias[:, :rows, :, :used] = self.down_bias[:, :rows, :, :used]
        bank.up[:, :rows, :used] = self.up[:, :rows, :used]
        bank.up_bias[:, :rows] = self.up_bias[:, :rows]
        bank.forms[:, :rows] = self.forms[:, :rows]
        bank.plain = self.plain
        return bank


class _Weights(NamedTuple):
    """Bottlenecks of a place: `down [G,
    H, r]`, `up [G, r, H]`, their biases, forms `[G, 4, 1, 1]` or None: plain.
    """

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    forms: Tensor | None

    def adapt(self, chosen: slice | Tensor, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [G, T, H]`, the output of a sublayer whose input was `x [G,
        T, H]`, by the chosen bottlenecks.
        """
        down = self.down
        down_bias = self.down_bias
        up = self.up
        up_bias = self.up_bias
        if isinstance(chosen, slice):  # neighbours: no copy
            down = down[chosen]
            down_bias = down_bias[chosen]
            up = up[chosen]
            up_bias = up_bias[chosen]
        else:
            down = down.index_select(0, chosen)
            down_bias = down_bias.index_select(0, chosen)
            up = up.index_select(0, chosen)
            up_bias = up_bias.index_select(0, chosen)
        if self.forms is None:
            z = torch.baddbmm(down_bias, h, down).relu_()
            return torch.baddbmm(h, z, up).add_(up_bias)
        parallel, alone, again, gelu = self.forms[chosen].unbind(1)  # each [G, 1, 1]
        z = torch.baddbmm(down_bias, torch.where(parallel, x, h), down)
        z = torch.where(gelu, F.gelu(z, approximate="tanh"), z.relu())
        out = torch.baddbmm(h.masked_fill(alone, 0.0), z, up).add_(up_bias)
        return out + x.masked_fill(~again, 0.0)


class _Rows(Adapt):
    """A batch's rows, each with the adapter of its slot."""

    __slots__ = ("_index", "_places")

    def __init__(self, bank: AdapterBank, index: Tensor) -> None:
        self._places = bank.places()
        self._index = index

    def after(self, layer: int, place: Place, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [B, T, H]`, each row by its own bottleneck."""
        return self._places[_row(layer, place)].adapt(self._index, x, h)


class _Block(NamedTuple):
    """Rows from `start` on: `groups` adapters, each used by `each` rows that follow each other."""

    start: int
    each: int
    groups: int
    slots: slice | Tensor


class _Blocks(Adapt):
    """A batch's rows in the order of their adapters."""

    __slots__ = ("_blocks", "_places")

    def __init__(self, bank: AdapterBank, blocks: Sequence[_Block]) -> None:
        self._places = bank.places()
        self._blocks = blocks

    def after(self, layer: int, place: Place, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [B, T, H]`, all rows of an adapter in one product."""
        weights = self._places[_row(layer, place)]
        parts = []
        for block in self._blocks:
            rows = slice(block.start, block.start + block.each * block.groups)
            shape = block.groups, block.each * h.shape[1], h.shape[2]
            found = weights.adapt(block.slots, x[rows].reshape(shape), h[rows].reshape(shape))
            parts.append(found.view(-1, *h.shape[1:]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _row(layer: int, place: Place) -> int:
    return layer * 2 + PLACES.index(place)


def gathered(adapter: SideAdapter) -> Bottlenecks:
    """Return an adapter's plain bottlenecks, for a table.

    Raises:
        ValueError: it is something else; `gathers` tells.
    """
    found = adapter.materialised() if isinstance(adapter, Compacter) else adapter
    if not isinstance(found, Bottlenecks) or found.trains_norms:
        raise ValueError(
            f"kind {adapter.spec.kind} is not gathered per row: {adapter.spec.to_json()}"
        )
    return found


def gathers(adapter: SideAdapter) -> bool:
    """Whether an adapter is bottlenecks alone, so that a table can hold it."""
    return isinstance(adapter, Bottlenecks | Compacter) and not adapter.trains_norms


def stack(adapters: Iterable[SideAdapter | None], shape: SideShape) -> AdapterBank:
    """Build a table that holds exactly these adapters, slot i for the i-th."""
    sides = list(adapters)
    hidden = max((side.spec.hidden for side in sides if side is not None), default=1)
    bank = AdapterBank(shape.layers, shape.width, hidden, len(sides))
    for slot, side in enumerate(sides):
        bank.write(slot, side)
    return bank
