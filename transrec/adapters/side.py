"""One side's adapter: the class that every kind extends,
and the shifts of weights that several kinds share.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transrec.adapters.spec import KINDS, SideShape, SideSpec, SpecError
from transrec.seam import NORMS, OUTSIDE, Adapt, Encoder, Modality

Chosen = TypeVar("Chosen", bound="SideAdapter")
Module = TypeVar("Module", bound=nn.Module)


class Reach(NamedTuple):
    """From where on an item encoder's states change: below block `layer` nothing does, −1: not even
    the embeddings do.

    With `attention`, the attention of block `layer` is itself still frozen: what changes comes
    after it.
    """

    layer: int
    attention: bool = True


EVERYTHING = Reach(OUTSIDE, attention=False)


class SideAdapter(Adapt, nn.Module):
    """What trains on one side. A kind extends this, names itself, and overrides the seam's
    questions it answers.

    Raises:
        SpecError: a spec whose numbers do not fit the encoder.
    """

    kind: ClassVar[str]
    keys: ClassVar[Mapping[str, tuple[Any, Any]]] = {}
    compats: ClassVar[tuple[str, ...]] = ()
    item_only: ClassVar[str] = ""
    user_only: ClassVar[str] = ""

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__()
        self.spec = spec
        self.shape = shape
        problems = [f"{shape.side}.{problem}" for problem in self.misfits(spec, shape)]
        if problems:
            raise SpecError(problems)
        self.layers = spec.chosen(shape.layers)
        if spec.train_layer_norm:
            self.norms = Shifts(self._norm_places(), shape, weights=True)

    @classmethod
    def misfits(cls, _spec: SideSpec, _shape: SideShape) -> list[str]:
        """Return what of a spec does not fit the encoder."""
        return []

    @property
    def trains_norms(self) -> bool:
        """Whether layer norms are shifted too."""
        return "norms" in self._modules

    def norm(self, layer: int, name: str, norm: nn.Module, x: Tensor) -> Tensor:
        """Run a layer norm on `x [..., H]`, shifted where the spec trains it."""
        shift = self.norms.find(layer, name) if self.trains_norms else None
        return (
            cast("Tensor", norm(x)) if shift is None else shift.norm(cast("nn.LayerNorm", norm), x)
        )

    def reach(self) -> Reach | None:
        """From where on the encoder's states change; None where they never do.

        A kind overrides `_reach`.
        """
        return self._norms_reach() if self.trains_norms else self._reach()

    def _norms_reach(self) -> Reach:
        """From where on shifted layer norms change states."""
        own = self._reach()
        if (
            own is None
            or own == EVERYTHING
            or (self.spec.layers == "all" and not self.shape.pre_norm)
        ):
            return EVERYTHING
        # A pre-norm block normalises before its attention; the norm outside the blocks comes last
        # there.
        return Reach(self.layers[0], attention=False) if self.shape.pre_norm else own

    def _reach(self) -> Reach | None:
        return Reach(self.layers[0]) if self.layers else None

    def for_serving(self, encoder: Encoder) -> Adapt:
        """Return itself in the dtype and on the device of the encoder."""
        return self.like(encoder)

    def like(self, encoder: Encoder) -> Self:
        """Return itself, or a copy, in the dtype and on the device of the encoder."""
        weight = encoder.parts(OUTSIDE)["norm"].weight
        assert isinstance(weight, Tensor)  # noqa: S101 - a layer norm has one
        return placed(self, weight.device, weight.dtype)

    def count_served(self) -> int:
        """Count the weights of the form that serves,
        without those of the encoder that it merges into.
        """
        return count_weights(self)

    def share(self, other: SideAdapter) -> None:
        """Take from a side that was built before what both have in common;
        told once, when the adapter is built.
        """

    @classmethod
    def for_pair(cls, spec: SideSpec, text: SideShape, image: SideShape) -> SideAdapter | Paired:
        """Build this kind for a pair of item encoders:
        on each of them by itself, unless a kind knows better.
        """
        return Paired(spec, cls(spec, text), cls(spec, image))

    def _norm_places(self) -> list[tuple[int, str]]:
        outside = [(OUTSIDE, "norm")] if self.spec.layers == "all" else []
        return outside + [(layer, name) for layer in self.layers for name in NORMS]


class Paired(Adapt, nn.Module):
    """One kind on both encoders of a pair: the text encoder's adapter and the image encoder's."""

    def __init__(self, spec: SideSpec, text: SideAdapter, image: SideAdapter) -> None:
        super().__init__()
        image.share(text)
        self.spec = spec
        self.text = text
        self.image = image

    @property
    def layers(self) -> tuple[int, ...]:
        """The text encoder's adapted layers; none on either side for `none`."""
        return self.text.layers

    def part(self, modality: Modality) -> SideAdapter:
        """Return one encoder's adapter."""
        return self.text if modality == "text" else self.image

    def for_serving(self, encoder: Encoder) -> Adapt:
        """Return both in their cheapest form."""
        pair = cast("PairOfEncoders", encoder)
        return _Both(self, self.text.for_serving(pair.text), self.image.for_serving(pair.image))

    def like(self, encoder: Encoder) -> Self:
        """Return itself, or a copy, in the dtype and on the device of the encoders."""
        weight = encoder.parts(OUTSIDE)["norm"].weight
        assert isinstance(weight, Tensor)  # noqa: S101 - a layer norm has one
        return placed(self, weight.device, weight.dtype)

    def count_served(self) -> int:
        """Count the weights of the form that serves:
        both adapters', and what the pair has beside them.
        """
        own = count_weights(self) - count_weights(self.text) - count_weights(self.image)
        return own + self.text.count_served() + self.image.count_served()

    def share(self, other: SideAdapter) -> None:
        """Nothing is built before the item side."""


class PairOfEncoders(Encoder, Protocol):
    """The two encoders of a pair."""

    text: Encoder
    image: Encoder


class _Both(Adapt):
    """What serves a pair: two adapters in their cheapest form."""

    def __init__(self, own: Adapt, text: Adapt, image: Adapt) -> None:
        self._own = own
        self._parts = {"text": text, "image": image}

    def part(self, modality: Modality) -> Adapt:
        """Return one encoder's."""
        return self._parts[modality]

    def vector(self, pooled: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        """Turn the pair's states into vectors as the adapter itself does."""
        return self._own.vector(pooled, project)


def register(kind: type[Chosen]) -> type[Chosen]:
    """Enter a kind under its name."""
    KINDS[kind.kind] = kind
    return kind


class Shift(nn.Module):
    """What is added to a linear's bias,
    or to a layer norm's weight and bias; zeros at first, which begins as none.
    """

    def __init__(self, size: int, *, weight: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size)) if weight else None
        self.bias = nn.Parameter(torch.zeros(size))

    def norm(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        """Run a shifted layer norm."""
        weight, bias = self.shifted(norm)
        return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)

    def linear(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """Run a linear with a shifted bias."""
        return F.linear(x, *self.shifted(linear))

    def shifted(self, part: nn.Linear | nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """Return weight and bias with what is added."""
        return (
            part.weight if self.weight is None else part.weight + self.weight,
            part.bias + self.bias,
        )


class Shifts(nn.Module):
    """Shifts by layer and name, for example `5.ffn_norm.bias` and `outside.norm.weight`."""

    def __init__(
        self, places: list[tuple[int, str]], shape: SideShape, *, weights: bool = False
    ) -> None:
        super().__init__()
        self.places = places
        for layer, name in places:
            key = _key(layer)
            if key not in self._modules:
                self.add_module(key, nn.ModuleDict())
            size = shape.ffn if name == "ffn_in" else shape.width
            cast("nn.ModuleDict", self._modules[key])[name] = Shift(size, weight=weights)

    def find(self, layer: int, name: str) -> Shift | None:
        """Return the shift at a place, if there is one."""
        named = self._modules.get(_key(layer))
        return cast("Shift | None", None if named is None else named._modules.get(name))  # noqa: SLF001 - a ModuleDict's own mapping, without its checks

    def merged(self, encoder: Encoder) -> dict[tuple[int, str], tuple[Tensor, Tensor | None]]:
        """Return the shifted weights by place, in the dtype of the encoder."""
        table: dict[tuple[int, str], tuple[Tensor, Tensor | None]] = {}
        for layer, name in self.places:
            part = encoder.parts(layer)[name]
            assert isinstance(part, nn.Linear | nn.LayerNorm)  # noqa: S101 - the seam has no other parts
            shift = self.find(layer, name)
            assert shift is not None  # noqa: S101 - it is one of the places
            table[layer, name] = placed(shift, part.weight.device, part.weight.dtype).shifted(part)
        return table


def _key(layer: int) -> str:
    return "outside" if layer == OUTSIDE else str(layer)


class Merged(Adapt):
    """Weights of the encoder with an adapter's change added,
    by place: what serves a kind that changes weights only.
    """

    def __init__(self, table: Mapping[tuple[int, str], tuple[Tensor, Tensor | None]]) -> None:
        self._table = {
            place: (weight.detach(), None if bias is None else bias.detach())
            for place, (weight, bias) in table.items()
        }

    def linear(self, layer: int, name: str, linear: nn.Module, x: Tensor) -> Tensor:
        """Run the merged linear where there is one."""
        found = self._table.get((layer, name))
        return (
            super().linear(layer, name, linear, x)
            if found is None
            else F.linear(x, found[0], found[1])
        )

    def norm(self, layer: int, name: str, norm: nn.Module, x: Tensor) -> Tensor:
        """Run the merged layer norm where there is one."""
        found = self._table.get((layer, name))
        if found is None:
            return super().norm(layer, name, norm, x)
        norm = cast("nn.LayerNorm", norm)
        return F.layer_norm(x, norm.normalized_shape, found[0], found[1], norm.eps)


def count_weights(module: nn.Module) -> int:
    """Count the numbers that a module keeps."""
    return sum(value.numel() for value in module.state_dict().values())


def placed(module: Module, device: torch.device, dtype: torch.dtype) -> Module:
    """Return a module on a device in a dtype: itself if it is there, else a copy."""
    weight = next(module.parameters(), None)
    if weight is None or (weight.dtype == dtype and weight.device == device):
        return module
    return copy.deepcopy(module).to(device=device, dtype=dtype)
