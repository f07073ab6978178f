"""Kinds that change the encoder's own weights:
lora (Hu et al. 2022), bitfit (Ben Zaken et al. 2022), layer_norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transrec.adapters.side import EVERYTHING, Merged, Reach, Shifts, SideAdapter, placed, register
from transrec.adapters.spec import SideShape, SideSpec
from transrec.seam import LINEARS, NORMS, OUTSIDE, Adapt, Encoder

UPDATED = ("query", "value")


class LowRank(nn.Module):
    """The update `B A x`, A [r, H] kaiming-uniform,
    B [H, r] zero; in the authors' form beside a new frozen linear.
    """

    def __init__(self, width: int, rank: int, *, replaces: bool, biased: bool) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, width))
        self.b = nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        if replaces:
            fresh = nn.Linear(width, width, bias=biased)
            self.frozen_weight = nn.Buffer(fresh.weight.detach())
            self.frozen_bias = nn.Buffer(fresh.bias.detach()) if biased else None
        self.replaces = replaces

    def base(self, linear: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return the weights that are updated: the encoder's, or those that replace them."""
        return (
            (self.frozen_weight, self.frozen_bias)
            if self.replaces
            else (linear.weight, linear.bias)
        )


@register
class LoRA(SideAdapter):
    """`W x + (alpha / r) B A x` for query and value, r = `hidden`. It begins as none, and it merges
    into W.

    Authors' form: query and value are new random weights, frozen, so that the pretrained ones are
    lost.
    """

    kind = "lora"
    keys: ClassVar = {
        "hidden": (12, 4),
        "alpha": (1.0, 1.0),
        "layers": ("all", "all"),
        "train_layer_norm": (False, False),
        "compat": (None, None),
    }
    compats = ("adapter4rec",)

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        self.scale = spec.alpha / spec.hidden
        replaces = spec.compat is not None
        for layer in self.layers:
            named = {
                name: LowRank(
                    shape.width, spec.hidden, replaces=replaces, biased=name in shape.biased
                )
                for name in UPDATED
            }
            self.add_module(str(layer), nn.ModuleDict(named))

    def linear(self, layer: int, name: str, linear: nn.Module, x: Tensor) -> Tensor:
        """Run query or value with its update."""
        update = self._find(layer, name)
        if update is None:
            return linear(x)  # type: ignore[no-any-return]
        weight, bias = update.base(cast("nn.Linear", linear))
        return F.linear(x, weight, bias) + self.scale * F.linear(F.linear(x, update.a), update.b)

    def _reach(self) -> Reach | None:
        return Reach(self.layers[0], attention=False) if self.layers else None

    def for_serving(self, encoder: Encoder) -> Adapt:
        """Return the merged weights `W + (alpha / r) B A`, summed in float32."""
        table = self.norms.merged(encoder) if self.trains_norms else {}
        for layer in self.layers:
            for name in UPDATED:
                linear = encoder.parts(layer)[name]
                update = self._find(layer, name)
                assert isinstance(linear, nn.Linear)  # noqa: S101 - by its name
                assert update is not None  # noqa: S101 - every chosen layer has both
                like = linear.weight
                update = placed(update, like.device, torch.float32)
                weight, bias = update.base(linear)
                merged = torch.addmm(weight.float(), update.b, update.a, alpha=self.scale)
                table[layer, name] = (
                    merged.to(like.dtype),
                    None if bias is None else bias.to(like.dtype),
                )
        return Merged(table)

    def _find(self, layer: int, name: str) -> LowRank | None:
        named = self._modules.get(str(layer))
        return cast("LowRank | None", None if named is None else named._modules.get(name))  # noqa: SLF001 - a ModuleDict's own mapping, without its checks


@register
class BitFit(SideAdapter):
    """Every bias that the chosen layers have, of linears and layer norms; with `all`, the outer
    norm's too.

    A bundle holds what is added to a bias, not the bias: it begins as none.
    """

    kind = "bitfit"
    keys: ClassVar = {"layers": ("all", "all"), "train_layer_norm": (False, False)}

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        places = [
            (layer, name) for layer in self.layers for name in LINEARS if name in shape.biased
        ]
        # Where the layer norms train as a whole, their biases are among `norms` already.
        norms = [] if spec.train_layer_norm else self._norm_places()
        self.biases = Shifts(places + norms, shape)

    def linear(self, layer: int, name: str, linear: nn.Module, x: Tensor) -> Tensor:
        """Run a linear with its shifted bias."""
        shift = self.biases.find(layer, name)
        return (
            super().linear(layer, name, linear, x)
            if shift is None
            else shift.linear(cast("nn.Linear", linear), x)
        )

    def norm(self, layer: int, name: str, norm: nn.Module, x: Tensor) -> Tensor:
        """Run a layer norm with its shifted bias."""
        shift = self.biases.find(layer, name)
        return (
            super().norm(layer, name, norm, x)
            if shift is None
            else shift.norm(cast("nn.LayerNorm", norm), x)
        )

    def _reach(self) -> Reach | None:
        if self.spec.layers == "all" and not self.shape.pre_norm:
            return EVERYTHING
        # An encoder without biases in its attention would be frozen up to its output; most have
        # them.
        return Reach(self.layers[0], attention=False)

    def for_serving(self, encoder: Encoder) -> Adapt:
        """Return the merged weights."""
        norms = self.norms.merged(encoder) if self.trains_norms else {}
        return Merged({**self.biases.merged(encoder), **norms})


@register
class LayerNormTuning(SideAdapter):
    """Weights and biases of the layer norms; with `all`, the one outside the blocks too.

    It begins as none.
    """

    kind = "layer_norm"
    keys: ClassVar = {"layers": ("all", "all")}

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        self.norms = Shifts(self._norm_places(), shape, weights=True)

    def for_serving(self, encoder: Encoder) -> Adapt:
        """Return the merged weights."""
        return Merged(self.norms.merged(encoder))


class Change(nn.Module):
    """What is added to the weight of a part and to its bias, if it has one; zeros at first."""

    def __init__(self, weight: tuple[int, ...], *, biased: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(weight))
        self.bias = nn.Parameter(torch.zeros(weight[0])) if biased else None

    def changed(self, part: nn.Linear | nn.LayerNorm) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias with what is added."""
        return part.weight + self.weight, part.bias if self.bias is None else part.bias + self.bias


@register
class Whole(SideAdapter):
    """Every weight of the user encoder, positions included: full tuning of that side. It begins as
    none.

    A bundle holds what is added. IISAN trains its user encoder beside the towers: `compat =
    "iisan"` on the item side takes this kind on the user side, unless the spec names another.
    """

    kind = "whole"
    user_only = (
        "an item encoder that trains as a whole is full fine-tuning, stage finetune, not an adapter"
    )

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        width = shape.width
        sizes = {
            "ffn_in": (shape.ffn, width),
            "ffn_out": (width, shape.ffn),
            **dict.fromkeys(NORMS, (width,)),
        }
        self.positions = nn.Parameter(torch.zeros(shape.history, width))
        self.outside = Change((width,), biased=True)
        for layer in self.layers:
            parts = {
                name: Change(
                    sizes.get(name, (width, width)), biased=name in NORMS or name in shape.biased
                )
                for name in (*LINEARS, *NORMS)
            }
            self.add_module(str(layer), nn.ModuleDict(parts))

    def linear(self, layer: int, name: str, linear: nn.Module, x: Tensor) -> Tensor:
        """Run a changed linear."""
        return F.linear(x, *self._change(layer, name).changed(cast("nn.Linear", linear)))

    def norm(self, layer: int, name: str, norm: nn.Module, x: Tensor) -> Tensor:
        """Run a changed layer norm; before the first block the positions change as well."""
        norm = cast("nn.LayerNorm", norm)
        if layer == OUTSIDE:
            x = x + self.positions[-x.shape[1] :]
        return F.layer_norm(
            x, norm.normalized_shape, *self._change(layer, name).changed(norm), norm.eps
        )

    def for_serving(self, encoder: Encoder) -> Adapt:
        """Return the merged weights."""
        own = self.like(encoder)
        places = [
            (OUTSIDE, "norm"),
            *((layer, name) for layer in self.layers for name in (*LINEARS, *NORMS)),
        ]
        table = {}
        for layer, name in places:
            part = encoder.parts(layer)[name]
            assert isinstance(part, nn.Linear | nn.LayerNorm)  # noqa: S101 - the seam has no other parts
            table[layer, name] = own._change(layer, name).changed(part)  # noqa: SLF001 - of its own class
        return _MergedWhole(table, own.positions.detach())

    def _change(self, layer: int, name: str) -> Change:
        return (
            self.outside
            if layer == OUTSIDE
            else cast("Change", cast("nn.ModuleDict", self._modules[str(layer)])[name])
        )


class _MergedWhole(Merged):
    """Merged weights, and positions that are added before the first norm."""

    def __init__(
        self, table: Mapping[tuple[int, str], tuple[Tensor, Tensor | None]], positions: Tensor
    ) -> None:
        super().__init__(table)
        self._positions = positions

    def norm(self, layer: int, name: str, norm: nn.Module, x: Tensor) -> Tensor:
        """Run the merged layer norm, before the first block with the positions' change."""
        return super().norm(
            layer, name, norm, x + self._positions[-x.shape[1] :] if layer == OUTSIDE else x
        )
