"""Bottlenecks after or beside sublayers.

houlsby (Houlsby et al. 2019), houlsby_parallel, pfeiffer (Pfeiffer et al. 2021), compacter (Karimi
Mahabadi et al. 2021); arXiv 2305.15036, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transrec.adapters.side import SideAdapter, count_weights, register
from transrec.adapters.spec import SideShape, SideSpec
from transrec.seam import PLACES, Adapt, Encoder, Place
from transrec.shapes import undrawn

INIT_STD = 0.01
RULE_STD = 1e-4


class Form(NamedTuple):
    """How a bottleneck's change `U σ(D ·)` meets a sublayer of input x and output h. The plain one:
    `h + U relu(D h)`.

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
        """Adapt `h [..., H]`, the output of a sublayer whose input was `x [...,
        H]` (read by some forms only).
        """
        return meet(
            self.form,
            self.down.weight,
            self.down.bias,
            self.up.weight,
            self.up.bias,
            h,
            h if x is None else x,
        )


def meet(
    form: Form, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor, h: Tensor, x: Tensor
) -> Tensor:
    """Run one bottleneck; `down [r, H]` and `up [H, r]` as a linear has them."""
    z = F.linear(x if form.parallel else h, down, down_bias)
    z = F.gelu(z, approximate="tanh") if form.gelu else z.relu()
    change = F.linear(z, up, up_bias)
    out = change if form.alone else h + change
    return out + x if form.again else out


class Bottlenecks(SideAdapter):
    """One side's bottlenecks by layer and place,
    named `5.attention.down.weight`; elsewhere `h` passes unchanged.
    """

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
    """`x + sub(x) + U σ(D x)` beside each sublayer.

    The authors' own `+ x` inside makes it two x.
    """

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
    """The factors of `W = Σ_k A_k ⊗ (s_k t_kᵀ) [in,
    out]`, s and t xavier-uniform with gain √2, and a zero bias.
    """

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
        # A_k[a, b] · block_k[i, o], summed over k.
        product = torch.einsum("kab,kio->aibo", rule, blocks)
        return product.reshape(self.s.shape[0] * self.s.shape[1], -1).T


@register
class Compacter(SideAdapter):
    """Houlsby's places with Kronecker-factored weights; the rule A is one for all layers and for
    both sides.

    A is drawn from N(0, 1e-4²). Where both sides have it with one n, the item side holds A and the
    user side uses it. Authors' form: without the residual around the bottleneck.
    """

    kind = "compacter"
    keys: ClassVar = {**_HOULSBY, "n": (4, 4)}
    compats = ("adapter4rec",)

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        self.form = Form(alone=spec.compat is not None, gelu=True)
        rule = nn.Parameter(torch.randn(spec.n, spec.n, spec.n) * RULE_STD)
        self.register_parameter("rule", rule)
        self._owner: tuple[Compacter] | None = (
            None  # in a tuple: what the item side owns is not listed twice
        )
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
        return [
            f"n: {spec.n} does not divide {name} {size}" for name, size in sizes if size % spec.n
        ]

    def share(self, item: SideAdapter) -> None:
        """Use the item side's rule."""
        if isinstance(item, Compacter) and item.spec.n == self.spec.n:
            self.register_parameter("rule", None)
            self._owner = (item,)

    @property
    def _shared_rule(self) -> Tensor:
        owner = self if self._owner is None else self._owner[0]
        return cast("Tensor", owner.rule)

    def after(self, layer: int, place: Place, x: Tensor, h: Tensor) -> Tensor:
        """Adapt `h [..., H]` with weights made on the spot: the form for training."""
        found = self._factors(layer, place)
        if found is None:
            return h
        down, up = found
        rule = self._shared_rule
        return meet(self.form, down.weight(rule), down.bias, up.weight(rule), up.bias, h, x)

    @torch.no_grad()
    def materialised(self) -> Bottlenecks:
        """Return plain bottlenecks of the same weights: the form that serves."""
        rule = self._shared_rule
        with undrawn():
            plain = Bottlenecks(self.spec, self.shape)
        plain.to_empty(device=rule.device)
        if self.trains_norms:
            plain.norms.load_state_dict(self.norms.state_dict())
        for layer in self.layers:
            for place in Bottlenecks.places_of(self.spec):
                bottleneck = plain.bottleneck(layer, place)
                found = self._factors(layer, place)
                assert bottleneck is not None  # noqa: S101 - both follow one spec
                assert found is not None  # noqa: S101 - the same
                bottleneck.form = self.form
                for linear, factors in zip((bottleneck.down, bottleneck.up), found, strict=True):
                    linear.weight.copy_(factors.weight(rule))
                    linear.bias.copy_(factors.bias)
        return plain.requires_grad_(requires_grad=False).eval()

    def count_served(self) -> int:
        """Count the weights of the plain bottlenecks that are made of the factors."""
        with undrawn():
            return count_weights(Bottlenecks(self.spec, self.shape))

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
