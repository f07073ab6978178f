"""Adapters: what trains in a domain, given by a spec and handed to the encoders as an argument.

An encoder never holds an adapter. It calls `adapter(layer, place, h)` after each sublayer, with `h` the
sublayer's output before the residual, so that two threads with two adapters can never meet.
Houlsby et al. 2019; arXiv 2305.15036, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

Place = Literal["attention", "ffn"]
Positions = Literal["both", "attention", "ffn"]
Kind = Literal["none", "houlsby"]
Layers = Literal["all"] | int | tuple[int, ...]

Adapt = Callable[[int, Place, Tensor], Tensor]
"""What an encoder calls after a sublayer: (layer, place, h [..., H]) -> h [..., H]."""

DEFAULT_HIDDEN = {"item": 64, "user": 16}
INIT_STD = 0.01


class SpecError(ValueError):
    """A spec that names no adapter; `problems` lists everything wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("adapter spec: " + "; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class SideSpec:
    """What is adapted on one side: the kind, its hidden size, the sublayers and the layers it follows."""

    kind: Kind = "none"
    hidden: int = 64
    positions: Positions = "both"
    layers: Layers = "all"

    @property
    def places(self) -> tuple[Place, ...]:
        """The sublayers an adapter follows, in the order in which they run."""
        return ("attention", "ffn") if self.positions == "both" else (self.positions,)

    def chosen(self, layers: int) -> tuple[int, ...]:
        """Which of an encoder's `layers` layers are adapted, lowest first; none of them for `none`.

        Raises:
            SpecError: the spec names a layer that the encoder has not.
        """
        if self.kind == "none":
            return ()
        if self.layers == "all":
            return tuple(range(layers))
        if isinstance(self.layers, int):
            if self.layers > layers:
                raise SpecError([f"the last {self.layers} layers of an encoder that has {layers}"])
            return tuple(range(layers - self.layers, layers))
        beyond = [layer for layer in self.layers if layer >= layers]
        if beyond:
            raise SpecError([f"layers {beyond} of an encoder that has layers 0 to {layers - 1}"])
        return tuple(sorted(set(self.layers)))


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """Item side and user side of one adapter."""

    item: SideSpec = field(default_factory=SideSpec)
    user: SideSpec = field(default_factory=lambda: SideSpec(hidden=DEFAULT_HIDDEN["user"]))

    @classmethod
    def none(cls) -> AdapterSpec:
        """The frozen backbone."""
        return cls()

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> AdapterSpec:
        """Read a spec from plain JSON or TOML.

        Raises:
            SpecError: with every problem of the value.
        """
        problems = [f"unknown side {name!r}, expected item or user" for name in value if name not in ("item", "user")]
        sides = {side: _parse_side(side, value.get(side, {}), problems) for side in ("item", "user")}
        if problems:
            raise SpecError(problems)
        return cls(**sides)

    @property
    def kind(self) -> str:
        """One word for lists and cards: the kind, or `item+user` where the two sides differ."""
        kinds = {side.kind for side in (self.item, self.user)}
        if len(kinds) == 1:
            return kinds.pop()
        return "+".join(f"{name}:{side.kind}" for name, side in (("item", self.item), ("user", self.user)))

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON; `parse` reads it back."""
        value = asdict(self)
        for side in value.values():
            if isinstance(side["layers"], tuple):
                side["layers"] = list(side["layers"])
        return value


def _parse_side(side: str, value: object, problems: list[str]) -> SideSpec:
    default = SideSpec(hidden=DEFAULT_HIDDEN[side])
    if not isinstance(value, Mapping):
        problems.append(f"{side}: expected a table of settings, got {value!r}")
        return default
    known = ("kind", "hidden", "positions", "layers")
    problems += [f"{side}.{key}: unknown key, expected one of {', '.join(known)}" for key in value if key not in known]
    given = {key: value[key] for key in known if key in value}
    if isinstance(given.get("layers"), list):
        given["layers"] = tuple(given["layers"])
    found = [
        f"{side}.{key}: {expected}, got {given[key]!r}"
        for key, (holds, expected) in _SIDE_RULES.items()
        if key in given and not holds(given[key])
    ]
    problems += found
    return default if found else SideSpec(**{"hidden": DEFAULT_HIDDEN[side], **given})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_layers(value: object) -> bool:
    listed = isinstance(value, tuple) and len(value) > 0 and all(type(v) is int and v >= 0 for v in value)
    return value == "all" or _is_count(value) or listed


_SIDE_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "kind": (lambda v: v in get_args(Kind), f"expected one of {', '.join(get_args(Kind))}"),
    "hidden": (_is_count, "expected a positive whole number"),
    "positions": (lambda v: v in get_args(Positions), f"expected one of {', '.join(get_args(Positions))}"),
    "layers": (_is_layers, 'expected "all", a number of last layers, or a list of layer numbers'),
}


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """The sizes of a backbone that an adapter must fit."""

    item_layers: int
    item_width: int
    user_blocks: int
    user_width: int


class Bottleneck(nn.Module):
    """`A(h) = h + U relu(D h + b_D) + b_U`, D and U drawn from N(0, 0.01²), biases zero."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=INIT_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Adapt `h [..., H]`."""
        change: Tensor = self.up(self.down(h).relu())
        return h + change


class SideAdapter(nn.ModuleDict):
    """One side's bottlenecks by layer and place; where there is none, `h` passes unchanged."""

    def __init__(self, spec: SideSpec, layers: int, width: int) -> None:
        places = spec.places
        super().__init__(
            {
                str(layer): nn.ModuleDict({place: Bottleneck(width, spec.hidden) for place in places})
                for layer in spec.chosen(layers)
            }
        )
        self.spec = spec

    def forward(self, layer: int, place: Place, h: Tensor) -> Tensor:
        """Adapt `h [..., H]`, the output of `place` in `layer` before its residual."""
        bottleneck = self.bottleneck(layer, place)
        return h if bottleneck is None else bottleneck.forward(h)

    def bottleneck(self, layer: int, place: Place) -> Bottleneck | None:
        """Return the module at a place, if the spec puts one there."""
        key = str(layer)
        if key not in self:
            return None
        places = cast("nn.ModuleDict", self[key])
        return cast("Bottleneck", places[place]) if place in places else None


class Adapter(nn.Module):
    """The small trained modules of one domain: an item side and a user side."""

    def __init__(self, spec: AdapterSpec, shape: AdapterShape) -> None:
        super().__init__()
        self.spec = spec
        self.shape = shape
        self.item = SideAdapter(spec.item, shape.item_layers, shape.item_width)
        self.user = SideAdapter(spec.user, shape.user_blocks, shape.user_width)

    @classmethod
    def create(cls, spec: AdapterSpec, shape: AdapterShape, seed: int) -> Adapter:
        """Make a fresh adapter whose random weights depend on `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(spec, shape)

    @classmethod
    def from_tensors(cls, spec: AdapterSpec, shape: AdapterShape, tensors: Mapping[str, Any]) -> Adapter:
        """Build an adapter from named tensors or arrays, frozen.

        Raises:
            SpecError: names or shapes that differ from `expected_tensors`.
        """
        expected = expected_tensors(spec, shape)
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
        adapter = cls(spec, shape)
        adapter.load_state_dict({name: value.float() for name, value in given.items()})
        return adapter.requires_grad_(requires_grad=False).eval()

    def to_tensors(self) -> dict[str, Tensor]:
        """Return copies of the tensors by name, for example `item.5.attention.down.weight`."""
        return {name: value.detach().cpu().clone().contiguous() for name, value in self.state_dict().items()}


def expected_tensors(spec: AdapterSpec, shape: AdapterShape) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes that a bundle of this spec must hold on a backbone of this shape."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Adapter(spec, shape).state_dict().items()}


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
    """Count what trains: on the houlsby item side `layers · 2 · (2Hr + r + H)`."""
    sizes = {name: torch.Size(size).numel() for name, size in expected_tensors(spec, shape).items()}
    item = sum(size for name, size in sizes.items() if name.startswith("item."))
    return ParameterCount(item=item, user=sum(sizes.values()) - item)


class AdapterBank(nn.Module):
    """A fixed table of bottleneck adapters of one side; rows of a batch gather their own.

    A slot of zeros is `none`: `U relu(0) + 0` adds nothing. Smaller hidden sizes and missing places are
    zero-padded, which is exact under ReLU. Tables are `[slots, H, r]` and `[slots, r, H]` by layer and place,
    so that a gathered row multiplies without a transpose.
    """

    def __init__(self, layers: int, width: int, hidden: int, slots: int) -> None:
        super().__init__()
        self.layers, self.width, self.hidden, self.slots = layers, width, hidden, slots
        places = layers * 2
        self.down = nn.Buffer(torch.zeros(places, slots, width, hidden))
        self.down_bias = nn.Buffer(torch.zeros(places, slots, 1, hidden))
        self.up = nn.Buffer(torch.zeros(places, slots, hidden, width))
        self.up_bias = nn.Buffer(torch.zeros(places, slots, 1, width))

    @torch.no_grad()
    def write(self, slot: int, adapter: SideAdapter | None) -> None:
        """Put an adapter into a slot, `None` for zeros. The caller knows that no row in flight uses the slot.

        Raises:
            ValueError: the adapter's hidden size is larger than the table's.
        """
        for table in (self.down, self.down_bias, self.up, self.up_bias):
            table[:, slot].zero_()
        if adapter is None:
            return
        if adapter.spec.hidden > self.hidden:
            raise ValueError(f"an adapter of hidden size {adapter.spec.hidden} does not fit a table of {self.hidden}")
        for layer in range(self.layers):
            for place in _PLACES:
                bottleneck = adapter.bottleneck(layer, place)
                if bottleneck is not None:
                    self._write_place(_row(layer, place), slot, bottleneck)

    def _write_place(self, place: int, slot: int, bottleneck: Bottleneck) -> None:
        used = bottleneck.down.out_features
        self.down[place, slot, :, :used] = bottleneck.down.weight.T
        self.down_bias[place, slot, :, :used] = bottleneck.down.bias
        self.up[place, slot, :used] = bottleneck.up.weight.T
        self.up_bias[place, slot] = bottleneck.up.bias

    def rows(self, index: Tensor) -> Adapt:
        """Return the argument for an encoder whose row b wears the adapter in slot `index[b]`; `index` is `[B]`."""

        def adapt(layer: int, place: Place, h: Tensor) -> Tensor:
            row = _row(layer, place)
            flat = h if h.ndim == 3 else h.unsqueeze(1)  # noqa: PLR2004 - [B, T, H] or the last position's [B, H]
            down, up = self.down[row].index_select(0, index), self.up[row].index_select(0, index)
            z = torch.baddbmm(self.down_bias[row].index_select(0, index), flat, down).relu_()
            change = torch.baddbmm(self.up_bias[row].index_select(0, index), z, up)
            return h + change.view_as(h)

        return adapt

    def resized(self, slots: int, hidden: int) -> AdapterBank:
        """Return a table at least as large that begins with a copy of this one."""
        bank = AdapterBank(self.layers, self.width, hidden, slots).to(self.down.device, self.down.dtype)
        bank.down[:, : self.slots, :, : self.hidden] = self.down
        bank.down_bias[:, : self.slots, :, : self.hidden] = self.down_bias
        bank.up[:, : self.slots, : self.hidden] = self.up
        bank.up_bias[:, : self.slots] = self.up_bias
        return bank


_PLACES: tuple[Place, ...] = ("attention", "ffn")


def _row(layer: int, place: Place) -> int:
    return layer * 2 + _PLACES.index(place)


def unchanged(_layer: int, _place: Place, h: Tensor) -> Tensor:
    """Adapt nothing: what an encoder calls when it is given no adapter."""
    return h


def stack(adapters: Iterable[SideAdapter | None], layers: int, width: int) -> AdapterBank:
    """Build a table that holds exactly these adapters, slot i for the i-th."""
    sides = list(adapters)
    hidden = max((side.spec.hidden for side in sides if side is not None), default=1)
    bank = AdapterBank(layers, width, hidden, len(sides))
    for slot, side in enumerate(sides):
        bank.write(slot, side)
    return bank
