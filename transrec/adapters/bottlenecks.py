"""Bottlenecks after or beside sublayers, and the table in which those of many domains are gathered per row.

houlsby (Houlsby et al. 2019), houlsby_parallel, pfeiffer (Pfeiffer et al. 2021), compacter (Karimi Mahabadi et al.
2021); arXiv 2305.15036, section 3.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transrec.adapters.side import SideAdapter, register
from transrec.adapters.spec import SideShape, SideSpec
from transrec.seam import PLACES, Adapt, Encoder, Place

INIT_STD = 0.01
RULE_STD = 1e-4


class Form(NamedTuple):
    """How a bottleneck's change `U σ(D ·)` meets a sublayer of input x and output h. The plain one: `h + U relu(D h)`.

    Attributes:
        parallel: it reads x instead of h.
        alone: h is not added.
        again: x is added, once more than the residual does.
        gelu: σ is the tanh-approximated GELU, else ReLU.
    """

    parallel: bool = False
    alone: bool = False
    again: bool = False
    gelu: bool = False


PLAIN = Form()


class Bottleneck(nn.Module):
    """`A(h) = h + U σ(D h + b_D) + b_U`, D and U drawn from N(0, 0.01²), biases zero."""

    def __init__(self, width: int, hidden: int, form: Form = PLAIN) -> None:
        super().__init__()
        self.form = form
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=INIT_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """Adapt `h [..., H]`, the output of a sublayer whose input was `x [..., H]` (read by some forms only)."""
        return meet(self.form, self.down.weight, self.down.bias, self.up.weight, self.up.bias, h, h if x is None else x)


def meet(form: Form, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor, h: Tensor, x: Tensor) -> Tensor:
    """Run one bottleneck; `down [r, H]` and `up [H, r]` as a linear has them."""
    z = F.linear(x if form.parallel else h, down, down_bias)
    z = F.gelu(z, approximate="tanh") if form.gelu else z.relu()
    change = F.linear(z, up, up_bias)
    out = change if form.alone else h + change
    return out + x if form.again else out


class Bottlenecks(SideAdapter):
    """One side's bottlenecks by layer and place, named `5.attention.down.weight`; elsewhere `h` passes unchanged."""

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        form = self.form_of(spec)
        for layer in self.layers:
            places: dict[str, nn.Module] = {
                place: Bottleneck(shape.width, spec.hidden, form) for place in self.places_of(spec)
            }
            self.add_module(str(layer), nn.ModuleDict(places))

    @classmethod
    def places_of(cls, spec: SideSpec) -> tuple[Place, ...]:
        """Return the sublayers that a bottleneck follows, in the order in which they run."""
        return PLACES if spec.positions == "both" else (spec.positions,)

    @classmethod
    def form_of(cls, _spec: SideSpec) -> Form:
        """Return how they meet a sublayer."""
        return PLAIN

    def after(self, layer: int, place: Place, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [..., H]`, the output of `place` in `layer` before its residual adds `x`."""
        bottleneck = self.bottleneck(layer, place)
        return h if bottleneck is None else bottleneck.forward(h, x)

    def bottleneck(self, layer: int, place: Place) -> Bottleneck | None:
        """Return the module at a place, if the spec puts one there."""
        places = self._modules.get(str(layer))
        return cast("Bottleneck | None", None if places is None else places._modules.get(place))  # noqa: SLF001 - a ModuleDict's own mapping, without its checks


_HOULSBY: Mapping[str, tuple[Any, Any]] = {
    "hidden": (64, 16),
    "positions": ("both", "both"),
    "layers": ("all", "all"),
    "train_layer_norm": (False, False),
    "compat": (None, None),
}


@register
class Houlsby(Bottlenecks):
    """After attention-output and after FFN-output, before the residual and the layer norm."""

    kind = "houlsby"
    keys = _HOULSBY
    compats = ("adapter4rec",)  # the authors' form is the same


@register
class HoulsbyParallel(Bottlenecks):
    """`x + sub(x) + U σ(D x)` beside each sublayer. The authors' own `+ x` inside makes it two x."""

    kind = "houlsby_parallel"
    keys = _HOULSBY
    compats = ("adapter4rec",)

    @classmethod
    def form_of(cls, spec: SideSpec) -> Form:
        """Return the parallel form."""
        return Form(parallel=True, again=spec.compat is not None)


@register
class Pfeiffer(Bottlenecks):
    """One a layer: after the FFN; in the authors' form after attention."""

    kind = "pfeiffer"
    keys: ClassVar = {key: pair for key, pair in _HOULSBY.items() if key != "positions"}
    compats = ("adapter4rec",)

    @classmethod
    def places_of(cls, spec: SideSpec) -> tuple[Place, ...]:
        """Return its one place."""
        return ("ffn",) if spec.compat is None else ("attention",)


class KroneckerLinear(nn.Module):
    """The factors of `W = Σ_k A_k ⊗ (s_k t_kᵀ) [in, out]`, s and t xavier-uniform with gain √2, and a zero bias."""

    def __init__(self, inputs: int, outputs: int, n: int) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.empty(n, inputs // n, 1))
        self.t = nn.Parameter(torch.empty(n, 1, outputs // n))
        self.bias = nn.Parameter(torch.zeros(outputs))
        for factors in (self.s, self.t):
            for factor in factors:
                nn.init.xavier_uniform_(factor, gain=math.sqrt(2))

    def weight(self, rule: Tensor) -> Tensor:
        """Return Wᵀ [out, in], as a linear has it, under the shared `rule [n, n, n]`."""
        blocks = self.s @ self.t  # [n, in/n, out/n]
        product = torch.einsum("kab,kio->aibo", rule, blocks)  # A_k[a, b] · block_k[i, o], summed over k
        return product.reshape(self.s.shape[0] * self.s.shape[1], -1).T


@register
class Compacter(SideAdapter):
    """Houlsby's places with Kronecker-factored weights; the rule A is one for all layers and for both sides.

    A is drawn from N(0, 1e-4²). Where both sides have it with one n, the item side holds A and the user side uses it.
    Authors' form: without the residual around the bottleneck.
    """

    kind = "compacter"
    keys: ClassVar = {**_HOULSBY, "n": (4, 4)}
    compats = ("adapter4rec",)

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        self.form = Form(alone=spec.compat is not None, gelu=True)
        rule = nn.Parameter(torch.randn(spec.n, spec.n, spec.n) * RULE_STD)
        self.register_parameter("rule", rule)
        self._rule = (rule,)  # in a tuple: a parameter that the item side owns is not listed twice
        for layer in self.layers:
            places: dict[str, nn.Module] = {
                place: nn.ModuleDict(
                    {
                        "down": KroneckerLinear(shape.width, spec.hidden, spec.n),
                        "up": KroneckerLinear(spec.hidden, shape.width, spec.n),
                    }
                )
                for place in Bottlenecks.places_of(spec)
            }
            self.add_module(str(layer), nn.ModuleDict(places))

    @classmethod
    def misfits(cls, spec: SideSpec, shape: SideShape) -> list[str]:
        """N must divide both sizes of a weight."""
        sizes = (("hidden", spec.hidden), ("the encoder's width", shape.width))
        return [f"n: {spec.n} does not divide {name} {size}" for name, size in sizes if size % spec.n]

    def share(self, item: SideAdapter) -> None:
        """Use the item side's rule."""
        if isinstance(item, Compacter) and item.spec.n == self.spec.n:
            self.register_parameter("rule", None)
            self._rule = item._rule  # noqa: SLF001 - of its own class

    def after(self, layer: int, place: Place, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [..., H]` with weights made on the spot: the form for training."""
        found = self._factors(layer, place)
        if found is None:
            return h
        down, up = found
        rule = self._rule[0]
        return meet(self.form, down.weight(rule), down.bias, up.weight(rule), up.bias, h, x)

    @torch.no_grad()
    def materialised(self) -> Bottlenecks:
        """Return plain bottlenecks of the same weights: the form that serves."""
        rule = self._rule[0]
        with torch.device("meta"):
            plain = Bottlenecks(self.spec, self.shape)
        plain.to_empty(device=rule.device)
        if self.trains_norms:
            plain.norms.load_state_dict(self.norms.state_dict())
        for layer in self.layers:
            for place in Bottlenecks.places_of(self.spec):
                bottleneck, found = plain.bottleneck(layer, place), self._factors(layer, place)
                assert bottleneck is not None  # noqa: S101 - both follow one spec
                assert found is not None  # noqa: S101 - the same
                bottleneck.form = self.form
                for linear, factors in zip((bottleneck.down, bottleneck.up), found, strict=True):
                    linear.weight.copy_(factors.weight(rule))
                    linear.bias.copy_(factors.bias)
        return plain.requires_grad_(requires_grad=False).eval()

    def for_serving(self, encoder: Encoder) -> Adapt:
        """Return plain bottlenecks in the dtype of the encoder."""
        return self.materialised().like(encoder)

    def _factors(self, layer: int, place: Place) -> tuple[KroneckerLinear, KroneckerLinear] | None:
        places = self._modules.get(str(layer))
        found = None if places is None else places._modules.get(place)  # noqa: SLF001 - a ModuleDict's own mapping, without its checks
        if found is None:
            return None
        named = cast("nn.ModuleDict", found)
        return cast("KroneckerLinear", named["down"]), cast("KroneckerLinear", named["up"])


class AdapterBank(nn.Module):
    """A fixed table of bottleneck adapters of one side; rows of a batch gather their own.

    A slot of zeros is `none`: `U σ(0) + 0` adds nothing. Smaller hidden sizes and missing places are zero-padded,
    which is exact since σ(0) = 0. Tables are `[slots, H, r]` and `[slots, r, H]` by layer and place, so that what is
    gathered multiplies without a transpose, and each lies by itself: strided ones multiply half as fast.
    """

    def __init__(self, layers: int, width: int, hidden: int, slots: int) -> None:
        super().__init__()
        self.layers, self.width, self.hidden, self.slots = layers, width, hidden, slots
        places = layers * 2
        self.down = nn.Buffer(torch.zeros(places, slots, width, hidden))
        self.down_bias = nn.Buffer(torch.zeros(places, slots, 1, hidden))
        self.up = nn.Buffer(torch.zeros(places, slots, hidden, width))
        self.up_bias = nn.Buffer(torch.zeros(places, slots, 1, width))
        self.forms = nn.Buffer(torch.zeros(places, slots, len(PLAIN), 1, 1, dtype=torch.bool))
        self.plain = True

    @torch.no_grad()
    def write(self, slot: int, adapter: SideAdapter | None) -> None:
        """Put an adapter into a slot, `None` for zeros. The caller knows that no row in flight uses the slot.

        Raises:
            ValueError: the adapter is no set of bottlenecks, or its hidden size is larger than the table's.
        """
        for table in (self.down, self.down_bias, self.up, self.up_bias, self.forms):
            table[:, slot].zero_()
        if adapter is not None and adapter.layers:
            self._write(slot, gathered(adapter))
        self.plain = not bool(self.forms.any())

    def _write(self, slot: int, adapter: Bottlenecks) -> None:
        if adapter.spec.hidden > self.hidden:
            raise ValueError(f"an adapter of hidden size {adapter.spec.hidden} does not fit a table of {self.hidden}")
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
        """Return the argument for an encoder whose row b wears the adapter in slot `index[b]`; `index` is `[B]`."""
        return _Rows(self, index)

    def blocks(self, index: Sequence[int]) -> tuple[list[int], Adapt]:
        """Return an order of the rows, and the argument for an encoder whose rows are in that order.

        Rows of one adapter then stand together and its weights are read once for all of them, without a copy where
        the slots are neighbours: for wide encoders, where gathering a copy for each row costs more than the product.
        """
        wearers: dict[int, list[int]] = {}
        for place, slot in enumerate(index):
            wearers.setdefault(slot, []).append(place)
        ordered = sorted(wearers.items(), key=lambda worn: (len(worn[1]), worn[0]))
        blocks, start = [], 0
        for each, worn in groupby(ordered, key=lambda worn: len(worn[1])):
            slots = [slot for slot, _ in worn]
            blocks.append(_Block(start, each, len(slots), self._select(slots)))
            start += each * len(slots)
        return [place for _, places in ordered for place in places], _Blocks(self, blocks)

    def dress(self, index: Sequence[int]) -> tuple[list[int] | None, Adapt]:
        """Return what is cheapest for a narrow encoder: blocks where all adapters have equally many rows, else rows.

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
        tables = (self.down.unbind(0), self.down_bias.unbind(0), self.up.unbind(0), self.up_bias.unbind(0), forms)
        return [_Weights(*found) for found in zip(*tables, strict=True)]

    def resized(self, slots: int, hidden: int) -> AdapterBank:
        """Return a table at least as large that begins with a copy of this one."""
        bank = AdapterBank(self.layers, self.width, hidden, slots).to(self.down.device, self.down.dtype)
        bank.down[:, : self.slots, :, : self.hidden] = self.down
        bank.down_bias[:, : self.slots, :, : self.hidden] = self.down_bias
        bank.up[:, : self.slots, : self.hidden] = self.up
        bank.up_bias[:, : self.slots] = self.up_bias
        bank.forms[:, : self.slots] = self.forms
        bank.plain = self.plain
        return bank


class _Weights(NamedTuple):
    """Bottlenecks of a place: `down [G, H, r]`, `up [G, r, H]`, their biases, forms `[G, 4, 1, 1]` or None: plain."""

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    forms: Tensor | None

    def adapt(self, chosen: slice | Tensor, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [G, T, H]`, the output of a sublayer whose input was `x [G, T, H]`, by the chosen bottlenecks."""
        down, down_bias, up, up_bias = self.down, self.down_bias, self.up, self.up_bias
        if isinstance(chosen, slice):  # neighbours: no copy
            down, down_bias, up, up_bias = down[chosen], down_bias[chosen], up[chosen], up_bias[chosen]
        else:
            down, down_bias = down.index_select(0, chosen), down_bias.index_select(0, chosen)
            up, up_bias = up.index_select(0, chosen), up_bias.index_select(0, chosen)
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
        self._places, self._index = bank.places(), index

    def after(self, layer: int, place: Place, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [B, T, H]`, each row by its own bottleneck."""
        return self._places[_row(layer, place)].adapt(self._index, x, h)


class _Block(NamedTuple):
    """Rows from `start` on: `groups` adapters, each worn by `each` rows that follow each other."""

    start: int
    each: int
    groups: int
    slots: slice | Tensor


class _Blocks(Adapt):
    """A batch's rows in the order of their adapters."""

    __slots__ = ("_blocks", "_places")

    def __init__(self, bank: AdapterBank, blocks: Sequence[_Block]) -> None:
        self._places, self._blocks = bank.places(), blocks

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
        raise ValueError(f"kind {adapter.spec.kind} is not gathered per row: {adapter.spec.to_json()}")
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
