"""Kinds that add learned tokens:
prompt (Lester et al. 2021) at the input, prefix (Li and Liang 2021) in layers.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transrec.adapters.side import EVERYTHING, Reach, SideAdapter, register
from transrec.adapters.spec import SideShape, SideSpec

TOKEN_STD = 0.02


@register
class Prompt(SideAdapter):
    """Learned tokens beside those of the text, drawn from N(0, 0.02²).

    They are laid behind the text, not before it: attention does not see order, a title keeps its
    positions, CLS stays first, and the tokens have no position of their own. They are no part of a
    mean pooling. Authors' form: they overwrite the first word embeddings, so that a title of fewer
    words is lost.
    """

    kind = "prompt"
    keys: ClassVar = {
        "tokens": (30, 30),
        "train_layer_norm": (False, False),
        "compat": (None, None),
    }
    compats = ("adapter4rec",)
    packs = False
    item_only = (
        "its tokens are items, each at its place in time, and a learned one would be an item nobody"
        " touched"
    )

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        self.tokens = nn.Parameter(torch.randn(spec.tokens, shape.width) * TOKEN_STD)

    @classmethod
    def misfits(cls, spec: SideSpec, shape: SideShape) -> list[str]:
        """Its compat form overwrites words."""
        wrong = spec.compat is not None and shape.modality == "image"
        return ["compat: adapter4rec overwrites words, and images have none"] if wrong else []

    def words(self, x: Tensor) -> Tensor:
        """Overwrite the first of the word embeddings [n, T, H], in the authors' form."""
        if self.spec.compat is None:
            return x
        length = min(x.shape[1], len(self.tokens))
        return torch.cat([self.tokens[:length].expand(len(x), -1, -1), x[:, length:]], 1)

    def enter(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Lay the tokens behind `x [n, T, H]`; all may attend to them."""
        if self.spec.compat is not None:
            return x, mask
        added = self.tokens.expand(len(x), -1, -1)
        return torch.cat([x, added], 1), None if mask is None else F.pad(
            mask, (0, len(self.tokens)), value=True
        )

    def _reach(self) -> Reach | None:
        return EVERYTHING


class KeysValues(nn.Module):
    """Learned keys and values [P, H] of one layer, drawn from N(0, 0.02²)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(tokens, width) * TOKEN_STD)
        self.values = nn.Parameter(torch.randn(tokens, width) * TOKEN_STD)


@register
class Prefix(SideAdapter):
    """Learned keys and values before those of every chosen layer;
    each token, or item, may attend to them.
    """

    kind = "prefix"
    packs = False
    keys: ClassVar = {
        "tokens": (30, 10),
        "layers": ("all", "all"),
        "train_layer_norm": (False, False),
    }

    def __init__(self, spec: SideSpec, shape: SideShape) -> None:
        super().__init__(spec, shape)
        for layer in self.layers:
            self.add_module(str(layer), KeysValues(spec.tokens, shape.width))

    def extend(
        self, layer: int, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Lay the layer's own before `keys,
        values [n, heads, T, H/heads]`; the mask lets everybody see them.
        """
        learned = cast("KeysValues | None", self._modules.get(str(layer)))
        if learned is None:
            return keys, values, mask
        keys = torch.cat([_like(learned.keys, keys), keys], 2)
        values = torch.cat([_like(learned.values, values), values], 2)
        if mask is None:
            return keys, values, None
        seen = True if mask.dtype == torch.bool else 0.0
        return keys, values, F.pad(mask, (self.spec.tokens, 0), value=seen)

    def _reach(self) -> Reach | None:
        return Reach(self.layers[0], attention=False) if self.layers else None


def _like(learned: Tensor, others: Tensor) -> Tensor:
    """Split learned vectors [P, H] into the heads of `others [n,
    heads, T, H/heads]`: [n, heads, P, H/heads].
    """
    n, heads, _, width = others.shape
    return learned.view(-1, heads, width).transpose(0, 1).expand(n, -1, -1, -1)
