"""The user encoder: SASRec over item vectors,
causal and left-padded; Kang & McAuley 2018, in post-norm form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transrec.attention import attention
from transrec.seam import OUTSIDE, Adapt, unchanged

MASKED = -1e9  # additive: a row that is all padding stays finite


@dataclass(frozen=True, slots=True)
class UserShape:
    """Sizes of a user encoder: width d, history L, heads, blocks."""

    width: int = 64
    history: int = 20
    heads: int = 2
    blocks: int = 2
    dropout: float = 0.1


class UserBlock(nn.Module):
    """`a = LN(x + Drop(W_o·MHA(x)))`,
    `y = LN(a + Drop(W_2 relu(W_1 a)))`; no bias in Q, K, V, O.
    """

    def __init__(self, shape: UserShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.ffn_in = nn.Linear(width, 4 * width)
        self.ffn_out = nn.Linear(4 * width, width)
        self.ffn_norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, layer: int, adapt: Adapt, *, last_only: bool = False
    ) -> Tensor:
        """Run `x [B, L, d]` under the additive `mask [B,
        1, L, L]`; with `last_only` return [B, 1, d].
        """
        queries = x[:, -1:] if last_only else x
        if last_only and mask is not None:
            mask = mask[:, :, -1:]
        q = self._split(adapt.linear(layer, "query", self.query, queries))
        k = self._split(adapt.linear(layer, "key", self.key, x))
        v = self._split(adapt.linear(layer, "value", self.value, x))
        k, v, mask = adapt.extend(layer, k, v, mask)
        h = attention(q, k, v, mask)  # [B, heads, Q, d/heads]
        h = self.dropout(
            adapt.linear(layer, "attention_out", self.out, h.transpose(1, 2).flatten(2))
        )
        a = adapt.norm(
            layer,
            "attention_norm",
            self.attention_norm,
            queries + adapt.after(layer, "attention", queries, h),
        )
        h = adapt.linear(layer, "ffn_in", self.ffn_in, a).relu()
        h = self.dropout(adapt.linear(layer, "ffn_out", self.ffn_out, h))
        return adapt.norm(layer, "ffn_norm", self.ffn_norm, a + adapt.after(layer, "ffn", a, h))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, heads, L, d/heads]


class UserEncoder(nn.Module):
    """Item vectors of a left-padded history [B, L, d] -> one user vector at each position."""

    def __init__(self, shape: UserShape) -> None:
        super().__init__()
        self.shape = shape
        self.position = nn.Embedding(shape.history, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.blocks = nn.ModuleList(UserBlock(shape) for _ in range(shape.blocks))
        self.dropout = nn.Dropout(shape.dropout)
        self.apply(xavier)

    def forward(
        self, vectors: Tensor, mask: Tensor, adapt: Adapt | None = None, *, last_only: bool = False
    ) -> Tensor:
        """Encode `vectors [B, L, d]`; `mask [B, L]` is True at real items.

        Returns [B, L, d], or with `last_only` the newest position alone, [B, d]: the last block
        then computes one query a row.
        """
        adapt = adapt or unchanged
        x = vectors + self.position.weight[-vectors.shape[1] :]
        x = self.dropout(adapt.norm(OUTSIDE, "norm", self.norm, x))
        allowed = causal_mask(mask, x.dtype)
        top = len(self.blocks) - 1
        states = {}
        for layer, block in enumerate(self.blocks):
            if layer in adapt.reads:
                states[layer] = x
            x = block(x, allowed, layer, adapt, last_only=last_only and layer == top)
        if adapt.reads:
            x = adapt.leave(x, states, allowed, _every_position)
        return x[:, -1] if last_only else x

    def parts(self, layer: int) -> Mapping[str, nn.Module]:
        """Return the linears and layer norms of a block,
        or the norm before the first, by their names at the seam.
        """
        if layer == OUTSIDE:
            return {"norm": self.norm}
        named = dict(self.blocks[layer].named_children())
        named["attention_out"] = named.pop("out")
        return named


def _every_position(x: Tensor) -> Tensor:
    return x


def causal_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive [B, 1, L, L]: −1e9 where the key is padding or in the future of the query."""
    length = mask.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    allowed = past & mask[:, None, :]  # [B, L, L]
    return (
        torch.zeros(allowed.shape, dtype=dtype, device=mask.device)
        .masked_fill(~allowed, MASKED)
        .unsqueeze(1)
    )


def xavier(module: nn.Module) -> None:
    """Draw a module's own weights xavier-normal, its biases zero.

    The authors' initialisation of the user encoder; their projection is drawn as torch does.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.xavier_normal_(module.weight)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
