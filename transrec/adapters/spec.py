"""What an adapter is, as plain data: a kind for each side and the settings that the kind reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args

from transrec.seam import LINEARS, Modality

Side = Literal["item", "user"]
SIDES: tuple[Side, ...] = get_args(Side)
Positions = Literal["both", "attention", "ffn"]
Named = Literal["all", "ends", "every_second"]
Layers = Named | int | tuple[int, ...]


class SpecError(ValueError):
    """A spec that names no adapter; `problems` lists everything wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("adapter spec: " + "; ".join(problems))
        self.problems = problems


class Kind(Protocol):
    """What a spec must know of a kind; `SideAdapter` is the class that has it."""

    kind: ClassVar[str]
    keys: ClassVar[Mapping[str, tuple[Any, Any]]]
    """The settings it reads, each with the item side's and the user side's default."""
    compats: ClassVar[tuple[str, ...]]
    """The departures it can reproduce."""
    item_only: ClassVar[str]
    """Why it makes no sense on the user side; empty where it does."""
    user_only: ClassVar[str]
    """Why it makes no sense on the item side; empty where it does."""

    def __init__(self, spec: SideSpec, shape: SideShape) -> None: ...


KINDS: dict[str, type[Kind]] = {}
"""Every kind by its name; a class enters by `register`."""


@dataclass(frozen=True, slots=True)
class SideSpec:
    """What is adapted on one side: the kind, and the settings of which each kind reads some.

    Attributes:
        kind: name in `KINDS`.
        hidden: bottleneck width, or rank.
        positions: the sublayers that are followed by a bottleneck.
        layers: all; the first and the last (`ends`); every second from the top; a number of last
            ones; or a list.
        train_layer_norm: whether the layer norms of those layers train too (with `all`, the one
            outside them as well).
        compat: whose departure from the method is reproduced; None is the method.
        alpha: of lora, whose update is scaled by alpha / hidden.
        n: of compacter, the number of Kronecker factors.
        tokens: how many are learned.
        heads: of the attention inside k_adapter.
    """

    kind: str = "none"
    hidden: int = 64
    positions: Positions = "both"
    layers: Layers = "all"
    train_layer_norm: bool = False
    compat: str | None = None
    alpha: float = 1.0
    n: int = 4
    tokens: int = 30
    heads: int = 12

    def chosen(self, layers: int) -> tuple[int, ...]:
        """Which of an encoder's `layers` layers are adapted, lowest first; none of them for `none`.

        Raises:
            SpecError: the spec names a layer that the encoder has not.
        """
        if self.kind == "none":
            return ()
        if isinstance(self.layers, str):
            named = {
                "all": range(layers),
                "ends": {0, layers - 1},
                "every_second": range(layers - 1, -1, -2),
            }
            return tuple(sorted(named[self.layers]))
        if isinstance(self.layers, int):
            if self.layers > layers:
                raise SpecError([f"the last {self.layers} layers of an encoder that has {layers}"])
            return tuple(range(layers - self.layers, layers))
        beyond = [layer for layer in self.layers if layer >= layers]
        if beyond:
            raise SpecError([f"layers {beyond} of an encoder that has layers 0 to {layers - 1}"])
        return tuple(sorted(set(self.layers)))

    def to_json(self) -> dict[str, Any]:
        """Return the kind and what it reads as plain JSON."""
        values = {key: getattr(self, key) for key in KINDS[self.kind].keys}
        if isinstance(values.get("layers"), tuple):
            values["layers"] = list(values["layers"])
        return {
            "kind": self.kind,
            **{key: value for key, value in values.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """Item side and user side of one adapter."""

    item: SideSpec = field(default_factory=SideSpec)
    user: SideSpec = field(default_factory=SideSpec)

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
        problems = [
            f"unknown side {name!r}, expected item or user" for name in value if name not in SIDES
        ]
        sides = {side: _parse_side(side, value.get(side, {}), problems) for side in SIDES}
        if problems:
            raise SpecError(problems)
        if sides["item"].compat == "iisan" and not value.get("user"):
            # There the user encoder trains, too.
            sides["user"] = _parse_side("user", {"kind": "whole"}, problems)
        return cls(**sides)

    @property
    def kind(self) -> str:
        """One word for lists and cards: the kind, or `item+user` where the two sides differ."""
        kinds = {side.kind for side in (self.item, self.user)}
        if len(kinds) == 1:
            return kinds.pop()
        return "+".join(
            f"{name}:{side.kind}" for name, side in (("item", self.item), ("user", self.user))
        )

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON; `parse` reads it back."""
        return {"item": self.item.to_json(), "user": self.user.to_json()}


@dataclass(frozen=True, slots=True)
class SideShape:
    """The sizes of one encoder that an adapter must fit.

    Attributes:
        side: item or user.
        layers: its blocks.
        width: of its states, H.
        ffn: width inside its feed-forward sublayers.
        vector: width d of item and user vectors.
        biased: the linears that have a bias, by their names at the seam.
        modality: what it reads; None on the user side.
        history: items that the user encoder sees; 0 on the item side.
    """

    side: Side
    layers: int
    width: int
    ffn: int
    vector: int
    biased: tuple[str, ...] = LINEARS
    modality: Modality | None = None
    history: int = 0

    @property
    def pre_norm(self) -> bool:
        """Whether its blocks normalise before their sublayers,
        and once more after the last: image encoders do.
        """
        return self.modality == "image"


def user_side(blocks: int, width: int, history: int) -> SideShape:
    """Return the user encoder's sizes; its attention has no biases."""
    return SideShape(
        "user", blocks, width, 4 * width, width, ("ffn_in", "ffn_out"), history=history
    )


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """The sizes of a backbone that an adapter must fit:
    its item encoders, text before image, and its user encoder.
    """

    items: tuple[SideShape, ...]
    user: SideShape


def _parse_side(side: Side, value: object, problems: list[str]) -> SideSpec:
    if not isinstance(value, Mapping):
        problems.append(f"{side}: expected a table of settings, got {value!r}")
        return SideSpec()
    given = {
        key: tuple(found) if isinstance(found, list) else found for key, found in value.items()
    }
    name = given.pop("kind", "none")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        problems.append(f"{side}.kind: expected one of {', '.join(KINDS)}, got {name!r}")
    found = [*_misplaced(side, kind, given), *_wrong(side, kind, given)]
    problems += found
    if found or kind is None or kind.kind == "none":
        return SideSpec()
    defaults = {key: pair[SIDES.index(side)] for key, pair in kind.keys.items()}
    return SideSpec(kind.kind, **{**defaults, **given})


def _misplaced(side: Side, kind: type[Kind] | None, given: Mapping[str, Any]) -> list[str]:
    """Name the keys that nobody knows,
    those that this kind does not read, and a kind on the wrong side.
    """
    problems = []
    reads = list(kind.keys) if kind is not None else list(_RULES)
    for key in given:
        if key not in _RULES:
            problems.append(
                f"{side}.{key}: unknown key, expected one of {', '.join(['kind', *reads])}"
            )
        elif (
            kind is not None
            and key not in reads
            and not (kind.kind == "none" and key in _ONCE_WRITTEN)
        ):
            knows = f"it reads {', '.join(reads)}" if reads else "it reads nothing"
            problems.append(f"{side}.{key}: kind {kind.kind} does not use it, {knows}")
    if kind is not None and side == "user" and kind.item_only:
        problems.append(f"user.kind: {kind.kind} makes no sense on the user side: {kind.item_only}")
    if kind is not None and side == "item" and kind.user_only:
        problems.append(f"item.kind: {kind.kind} makes no sense on the item side: {kind.user_only}")
    return problems


def _wrong(side: Side, kind: type[Kind] | None, given: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{side}.{key}: {expected}, got {given[key]!r}"
        for key, (holds, expected) in _RULES.items()
        if key in given and not holds(given[key])
    ]
    compat = given.get("compat")
    if (
        kind is not None
        and isinstance(compat, str)
        and "compat" in kind.keys
        and compat not in kind.compats
    ):
        problems.append(f"{side}.compat: expected one of {', '.join(kind.compats)}, got {compat!r}")
    return problems


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _is_layers(value: object) -> bool:
    listed = (
        isinstance(value, tuple)
        and len(value) > 0
        and all(type(v) is int and v >= 0 for v in value)
    )
    return (isinstance(value, str) and value in get_args(Named)) or _is_count(value) or listed


def _is_scale(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LARGEST


_LARGEST = 65_536
"""A spec comes with an upload: no number in it
may ask for more memory than any real adapter has.
"""

_ONCE_WRITTEN = ("hidden", "positions", "layers")
"""Keys that bundles of the first releases hold beside the kind `none`."""

_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "hidden": (_is_count, f"expected a positive whole number up to {_LARGEST}"),
    "positions": (
        lambda v: isinstance(v, str) and v in get_args(Positions),
        f"expected one of {', '.join(get_args(Positions))}",
    ),
    "layers": (
        _is_layers,
        (
            f"expected one of {', '.join(get_args(Named))}, a number of last layers, or a list of"
            " layer numbers"
        ),
    ),
    "train_layer_norm": (lambda v: isinstance(v, bool), "expected true or false"),
    "compat": (lambda v: isinstance(v, str), "expected a name"),
    "alpha": (_is_scale, "expected a positive number"),
    "n": (_is_count, "expected a positive whole number"),
    "tokens": (_is_count, "expected a positive whole number"),
    "heads": (_is_count, "expected a positive whole number"),
}
