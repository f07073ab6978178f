"""The adapter of one domain: an item side and a user side, to and from the tensors of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from transrec.adapters.side import Paired, Reach, SideAdapter, register
from transrec.adapters.spec import KINDS, AdapterShape, AdapterSpec, SideShape, SideSpec, SpecError
from transrec.shapes import undrawn


@register
class Nothing(SideAdapter):
    """The frozen backbone."""

    kind = "none"

    def _reach(self) -> Reach | None:
        return None


class Adapter(nn.Module):
    """The small trained modules of one domain: an item side and a user side.

    Raises:
        SpecError: a spec that does not fit the shape, with the problems of both sides.
    """

    def __init__(self, spec: AdapterSpec, shape: AdapterShape) -> None:
        super().__init__()
        self.spec = spec
        self.shape = shape
        problems: list[str] = []
        item = _build(spec.item, shape.items, problems)
        user = _build(spec.user, (shape.user,), problems)
        if item is None or user is None:
            raise SpecError(problems)
        assert isinstance(user, SideAdapter)  # noqa: S101 - there is one user encoder
        user.share(item.text if isinstance(item, Paired) else item)
        self.item = item
        self.user = user

    @classmethod
    def create(cls, spec: AdapterSpec, shape: AdapterShape, seed: int) -> Adapter:
        """Make a fresh adapter whose random weights depend on `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(spec, shape)

    @classmethod
    def from_tensors(
        cls, spec: AdapterSpec, shape: AdapterShape, tensors: Mapping[str, Any]
    ) -> Adapter:
        """Build an adapter from named tensors or arrays, frozen.

        Raises:
            SpecError: names or shapes that differ from `expected_tensors`.
        """
        with undrawn():
            adapter = cls(spec, shape)
        expected = _sizes(adapter)
        given = {name: torch.as_tensor(value) for name, value in tensors.items()}
        problems = [f"missing tensor {name}" for name in expected if name not in given]
        problems += [f"unexpected tensor {name}" for name in given if name not in expected]
        problems += [
            f"{name}: expected {list(size)}, got {list(given[name].shape)}"
            for name, size in expected.items()
            if name in given and tuple(given[name].shape) != size
        ]
        if problems:
            raise SpecError(problems)
        adapter.load_state_dict(
            {name: value.float().clone() for name, value in given.items()}, assign=True
        )
        return adapter.requires_grad_(requires_grad=False).eval()

    def to_tensors(self) -> dict[str, Tensor]:
        """Return copies of the tensors by name, for example `item.5.attention.down.weight`."""
        return {
            name: value.detach().cpu().clone().contiguous()
            for name, value in self.state_dict().items()
        }


def _build(
    spec: SideSpec, shapes: Sequence[SideShape], problems: list[str]
) -> SideAdapter | Paired | None:
    kind = cast("type[SideAdapter]", KINDS[spec.kind])
    try:
        return kind.for_pair(spec, *shapes) if len(shapes) > 1 else kind(spec, shapes[0])
    except SpecError as error:
        problems += error.problems
        return None


def _sizes(adapter: Adapter) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in adapter.state_dict().items()}


def expected_tensors(spec: AdapterSpec, shape: AdapterShape) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes that a bundle of
    this spec must hold on a backbone of this shape.
    """
    with undrawn():
        return _sizes(Adapter(spec, shape))


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Trainable parameters of an adapter."""

    item: int
    user: int

    @property
    def total(self) -> int:
        """Both sides."""
        return self.item + self.user


def count_parameters(spec: AdapterSpec, shape: AdapterShape) -> ParameterCount:
    """Count what trains: on the houlsby item side `layers · 2 · (2Hr + r + H)`.

    A compacter's rule that both sides use counts as the item side's.
    """
    with undrawn():
        adapter = Adapter(spec, shape)
    item, user = (
        sum(weight.numel() for weight in side.parameters()) for side in (adapter.item, adapter.user)
    )
    return ParameterCount(item=item, user=user)


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Bytes of an adapter's float32 weights in the form that serves, by side."""

    item: int
    user: int


def measure_weights(spec: AdapterSpec, shape: AdapterShape) -> WeightBytes:
    """Return how large an adapter is in memory, from its spec alone: nothing is allocated.

    Raises:
        SpecError: a spec that does not fit the shape.
    """
    with undrawn():
        adapter = Adapter(spec, shape)
        return WeightBytes(
            item=4 * adapter.item.count_served(), user=4 * adapter.user.count_served()
        )
