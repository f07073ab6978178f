"""Kinds beside the encoder that read its states:
k_adapter (Wang et al. 2021), side (after IISAN, arXiv 2404.02059).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from transrec.adapters.bottlenecks import Bottleneck
from transrec.adapters.side import EVERYTHING, Paired, Reach, SideAdapter, register
from transrec.adapters.spec import SideShape, SideSpec
from transrec.seam import States, unchanged
from transrec.user_encoder import UserBlock, UserShape

K_STD = 2e-4
K_BLOCKS = 2
GATE_TEMPERATURE = 0.1


class KBlock(nn.Module):
    """`K(x) = x + U T(T(D x))`, T a post-norm transformer block; D, U drawn from N(0, 2e-4²)."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        shape = UserShape(width=hidden, heads=heads, dropout=0.0)
        self.blocks = nn.ModuleList(UserBlock(shape) for _ in range(K_BLOCKS))
        self.up = nn.Linear(hidden, width)
        for part in self.blocks.parameters():
            (nn.init.xavier_normal_ if part.ndim > 1 else _keep)(part)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=K_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Run `x [n, T, H]` under the mask of the encoder's own attention."""
        z = self.down(x)
        for block in self.blocks:
            z = block(z, mask, 0, unchanged)
        return x + self.up(z)  # type: ignore[no-any-return]


@register
class KAdapter(SideAdapter):
    """A chain of K blocks beside the encoder: `z_1 = K(s_1)`, `z_k = K(s_k + z_{k−1})`, then
    `Linear(2H → H)[h ; z]`.

    On the item side s are the outputs of the chosen layers (the first and the last unless the spec
    says otherwise), on the user side the inputs of the blocks; h is the encoder's output. Inside K
    the encoder's own mask holds, causal and over padding; the last linear begins as the identity on
    h, so that the whole begins as none. Authors' form: no mask inside K, which leaks the future,
    and a random last linear.
    """

    kind = "k_adapter"
    packs = False
    keys: ClassVar = {
        "hidden": (192, 16),
        "heads": (12, 2),
        "layers": ("ends", "all"),
        "compat": (None, None),
    }
    compats = ("adapter4rec",)

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        after = 1 if shape.side == "item" else 0
        self._states = [layer + after for layer in self.layers]
        self.reads = frozenset(self._states)
        self.reads_tokens = shape.layers in self.reads
        for layer in self.layers:
            self.add_module(str(layer), KBlock(shape.width, spec.hidden, spec.heads))
        self.combine = nn.Linear(2 * shape.width, shape.width)
        nn.init.zeros_(self.combine.bias)
        if spec.compat is None:
            with torch.no_grad():
                self.combine.weight.copy_(torch.eye(shape.width, 2 * shape.width))
        else:
            nn.init.xavier_normal_(self.combine.weight)

    @classmethod
    def misfits(cls, spec: SideSpec, _shape: SideShape) -> list[str]:
        """The heads share the hidden size."""
        return (
            [f"hidden: {spec.hidden} cannot be shared by {spec.heads} heads"]
            if spec.hidden % spec.heads
            else []
        )

    def leave(
        self, x: Tensor, states: States, mask: Tensor | None, pool: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Combine the encoder's output with the chain's and pool;
        the output may be that of the last position alone.
        """
        inside = mask if self.spec.compat is None else None
        z: Tensor | None = None
        for layer, number in zip(self.layers, self._states, strict=True):
            state = states[number] if z is None else states[number] + z
            z = cast("KBlock", self._modules[str(layer)]).forward(state, inside)
        assert z is not None  # noqa: S101 - a spec chooses at least one layer
        return pool(self.combine(torch.cat([x, z[:, -x.shape[1] :]], -1)))

    def _reach(self) -> Reach | None:
        # It changes no state, but it reads those of all tokens: only the tokens can be cached.
        return EVERYTHING


class Tower(nn.Module):
    """`z_k = A_k(g_k h_k + (1 − g_k) z_{k−1})` over pooled states h_k, z_0 = 0, then `Linear(H →
    d)`.

    g = sigmoid(θ / 0.1), θ = 0 at first; A_k are bottlenecks.
    """

    def __init__(self, levels: int, width: int, hidden: int, vector: int) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.zeros(levels))
        self.levels = nn.ModuleList(Bottleneck(width, hidden) for _ in range(levels))
        self.end = nn.Linear(width, vector)
        nn.init.xavier_normal_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    def shares(self) -> Tensor:
        """Return the gates, each between 0 and 1."""
        return torch.sigmoid(self.gates / GATE_TEMPERATURE)

    def forward(self, states: Tensor) -> Tensor:
        """Climb over `states [n, S, H]` to [n, d]."""
        z = torch.zeros_like(states[:, 0])
        for number, (share, level) in enumerate(zip(self.shares(), self.levels, strict=True)):
            z = level(share * states[:, number] + (1 - share) * z)
        return self.end(z)  # type: ignore[no-any-return]


class CrossTower(Tower):
    """`z_k = A_k(g_k h_k + (1 − g_k) P i_k + z_{k−1})`:
    text states h_k meet image states i_k, brought to H_t by P.
    """

    def __init__(self, levels: int, widths: tuple[int, int], hidden: int, vector: int) -> None:
        super().__init__(levels, widths[0], hidden, vector)
        self.meet = nn.Linear(widths[1], widths[0], bias=False)
        nn.init.xavier_normal_(self.meet.weight)

    def climb(self, text: Tensor, image: Tensor) -> Tensor:
        """Climb over `text [n, S_t, H_t]` and `image [n,
        S_i, H_i]`, matched from the top, to [n, d].
        """
        count = len(self.levels)
        text = text[:, -count:]
        image = self.meet(image[:, -count:])
        z = torch.zeros_like(text[:, 0])
        for number, (share, level) in enumerate(zip(self.shares(), self.levels, strict=True)):
            z = level(share * text[:, number] + (1 - share) * image[:, number] + z)
        return self.end(z)  # type: ignore[no-any-return]


@register
class SideTower(SideAdapter):
    """A tower over the frozen encoder's pooled states.

    The item vector is the backbone's own plus `W tower`, W [d, d] zero at first: it begins as none.
    No gradient enters the encoder, so its states are computed once for each item. `compat =
    "iisan"`: the tower replaces the backbone's own vector.
    """

    kind = "side"
    keys: ClassVar = {
        "hidden": (64, 16),
        "layers": ("every_second", "every_second"),
        "compat": (None, None),
    }
    compats = ("iisan",)
    item_only = "a tower reads the item encoder's layers, and its states are cached for each item"

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        self._states = [layer + 1 for layer in self.layers]
        self.reads = frozenset(self._states)
        self.leaves = len(self.layers) + 1
        self.tower = Tower(len(self.layers), shape.width, spec.hidden, shape.vector)
        self.out = _zero_linear(shape.vector, shape.vector, spec)

    @classmethod
    def for_pair(cls, spec: SideSpec, text: SideShape, image: SideShape) -> PairedTowers:
        """Build three towers: text, image, and one across."""
        return PairedTowers(spec, cls(spec, text), cls(spec, image))

    def leave(
        self, x: Tensor, states: States, _mask: Tensor | None, pool: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Pool each state that is read: [n, S + 1, H], the encoder's own output last.

        Nothing trained runs yet.
        """
        return torch.stack([*(pool(states[number]) for number in self._states), pool(x)], 1)

    def vector(self, pooled: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        """Climb the tower over `pooled [n, S + 1, H]` to item vectors [n, d]."""
        change: Tensor = self.out(self.tower(pooled[:, :-1]))
        return change if self.spec.compat is not None else project(pooled[:, -1]) + change

    def _reach(self) -> Reach | None:
        return None


class PairedTowers(Paired):
    """Towers over the states of both encoders of a pair, and one across; `W [text ; image ; cross]`
    is added.

    An item that has no text, or no image, has a zero in place of that tower and of the one across.
    """

    def __init__(self, spec: SideSpec, text: SideTower, image: SideTower) -> None:
        super().__init__(spec, text, image)
        vector = text.shape.vector
        levels = min(len(text.layers), len(image.layers))
        self.cross = CrossTower(levels, (text.shape.width, image.shape.width), spec.hidden, vector)
        self.out = _zero_linear(3 * vector, vector, spec)
        for side in (text, image):
            del side.out  # theirs is one

    def vector(self, pooled: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        """Climb all towers over `pooled [n,
        (S_t + 1) H_t + (S_i + 1) H_i]` to item vectors [n, d].
        """
        cut = self.text.leaves * self.text.shape.width
        text = pooled[:, :cut].reshape(len(pooled), self.text.leaves, self.text.shape.width)
        image = pooled[:, cut:].reshape(len(pooled), self.image.leaves, self.image.shape.width)
        has_text, has_image = (
            part.abs().sum((1, 2), keepdim=True)[:, 0] > 0 for part in (text, image)
        )
        towers = [
            self._tower(self.text)(text[:, :-1]) * has_text,
            self._tower(self.image)(image[:, :-1]) * has_image,
            self.cross.climb(text[:, :-1], image[:, :-1]) * (has_text & has_image),
        ]
        change: Tensor = self.out(torch.cat(towers, 1))
        own = torch.cat([text[:, -1], image[:, -1]], 1)
        return change if self.spec.compat is not None else project(own) + change

    @staticmethod
    def _tower(side: SideAdapter) -> Tower:
        return cast("SideTower", side).tower


def _zero_linear(inputs: int, outputs: int, spec: SideSpec) -> nn.Linear:
    """Make the linear that adds a tower:
    zero at first, or, where the tower replaces the vector, random.
    """
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.bias)
    (nn.init.zeros_ if spec.compat is None else nn.init.xavier_normal_)(linear.weight)
    return linear


def _keep(part: Tensor) -> Tensor:
    return part  # layer norms and biases of a block begin as the library makes them
