"""What every item encoder shares: transformer blocks run by our own loop, so that the adapter is an
argument.

Inputs -> embedded tokens [n, T, H] -> L blocks -> pooled [n, H]. Text encoders normalise after each
sublayer (post-norm), image encoders before it and once more at the end (pre-norm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transrec.attention import attention
from transrec.packing import Packing
from transrec.seam import OUTSIDE, Adapt, unchanged

Pooling = Literal["cls", "mean"]

Layout = Tensor | Packing | None
"""How items of several lengths share a batch:
padded, under a mask [n, T]; packed; None where all have one length.
"""


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Sizes of a transformer block: width H,
    heads, width of the feed-forward sublayer, and where it normalises.
    """

    hidden: int
    heads: int
    intermediate: int
    norm_eps: float
    pre_norm: bool = False
    qkv_bias: bool = True


@dataclass(frozen=True, slots=True)
class FrozenPrefix:
    """All that can be known of an item before its first adapter: a state to cache.

    `x` is the input of the first adapted block and `h` its attention's output, both [n, T, H]; T is
    1 where the block is the last one and the pooling reads the CLS position only. Where the
    attention itself is adapted, `h` is None and `x` has all tokens. `mask` is [n, T], a packing, or
    None.
    """

    x: Tensor
    h: Tensor | None
    mask: Layout


class Block(nn.Module):
    """One transformer block; its linears and norms are asked for under the names of the seam."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.pre_norm = shape.pre_norm
        self.query = nn.Linear(shape.hidden, shape.hidden, bias=shape.qkv_bias)
        self.key = nn.Linear(shape.hidden, shape.hidden, bias=shape.qkv_bias)
        self.value = nn.Linear(shape.hidden, shape.hidden, bias=shape.qkv_bias)
        self.attention_out = nn.Linear(shape.hidden, shape.hidden)
        self.attention_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.ffn_in = nn.Linear(shape.hidden, shape.intermediate)
        self.ffn_out = nn.Linear(shape.intermediate, shape.hidden)
        self.ffn_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)

    def attend(self, x: Tensor, mask: Layout, queries: int, layer: int, adapt: Adapt) -> Tensor:
        """Attention's output [n, Q, H] for the first `queries`
        of the block's input `x [n, T, H]`; no residual yet.
        """
        if self.pre_norm:
            x = adapt.norm(layer, "attention_norm", self.attention_norm, x)
        packing = mask if isinstance(mask, Packing) else None
        q = self._split(
            adapt.linear(layer, "query", self.query, x[:, :queries] if packing is None else x)
        )
        k = self._split(adapt.linear(layer, "key", self.key, x))
        v = self._split(adapt.linear(layer, "value", self.value, x))
        k, v, keys = adapt.extend(layer, k, v, keys_mask(mask))
        # h is [n, heads, Q, H/heads], or [R, heads, W, H/heads] where texts are packed.
        h = attention(q, k, v, keys) if packing is None else packing.attend(q, k, v)
        h = h.transpose(1, 2).flatten(2)
        if packing is not None:
            h = leading(h, packing, queries)
        return adapt.linear(layer, "attention_out", self.attention_out, h)

    def finish(self, x: Tensor, h: Tensor, layer: int, adapt: Adapt) -> Tensor:
        """Run the block from its attention's output `h` on; `x` is its input, both [n, Q, H]."""
        a = x + adapt.after(layer, "attention", x, h)
        if not self.pre_norm:
            a = adapt.norm(layer, "attention_norm", self.attention_norm, a)
        inside = adapt.norm(layer, "ffn_norm", self.ffn_norm, a) if self.pre_norm else a
        f = F.gelu(adapt.linear(layer, "ffn_in", self.ffn_in, inside))
        f = adapt.linear(layer, "ffn_out", self.ffn_out, f)
        out = a + adapt.after(layer, "ffn", a, f)
        return out if self.pre_norm else adapt.norm(layer, "ffn_norm", self.ffn_norm, out)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [n, heads, T, H/heads]


class ItemEncoder(nn.Module):
    """The loop over the blocks. What embeds the inputs and what is pooled is each encoder's own."""

    norm: nn.LayerNorm
    reads_one: bool
    """Whether the pooling reads the first position only,
    so that the last block need not compute the others.
    """
    recomputes = False
    """Whether a block forgets what it computed and computes
    it again on the way back: less memory, more time.
    """

    def __init__(self, layers: int, shape: BlockShape) -> None:
        super().__init__()
        self.width = shape.hidden
        self.norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(layers))

    def embed(self, inputs: Any, adapt: Adapt) -> tuple[Tensor, Layout]:
        """Turn inputs into tokens [n, T, H] and, where rows are padded or packed, how."""
        raise NotImplementedError

    def pool(self, x: Tensor, mask: Layout) -> Tensor:
        """Pool `x [n, T, H]` to [n, H]."""
        raise NotImplementedError

    def forward(self, inputs: Any, adapt: Adapt | None = None) -> Tensor:
        """Encode inputs to [n, H] with the adapter given, or with none."""
        adapt = adapt or unchanged
        own, real = self.embed(inputs, adapt)
        # Packed texts have no place for tokens that an adapter adds: such a kind does not pack.
        x, mask = (own, real) if isinstance(real, Packing) else adapt.enter(own, real)
        states = {0: x} if 0 in adapt.reads else {}
        for layer in range(len(self.blocks)):
            x = self._run(layer, x, mask, adapt)
            if layer + 1 in adapt.reads:
                states[layer + 1] = x
        x = self._end(x, adapt)

        def pool(state: Tensor) -> Tensor:
            if not isinstance(real, Packing):
                state = state[:, : own.shape[1]]  # what was added behind is not pooled
            return self.pool(state, real)

        return adapt.leave(x, states, keys_mask(mask), pool) if adapt.reads else pool(x)

    def prefix(self, inputs: Any, layer: int, *, attention: bool = True) -> FrozenPrefix:
        """Run everything below the first adapted block's first adapter.

        Args:
            inputs: of the items.
            layer: the first adapted block.
            attention: whether its attention is still frozen, and so a part of the prefix.
        """
        x, mask = self.embed(inputs, unchanged)
        for below in range(layer):
            x = self._run(below, x, mask, unchanged)
        if not attention:
            return FrozenPrefix(x, None, mask)
        queries = self._queries(layer, x, unchanged)
        h = self._block(layer).attend(x, mask, queries, layer, unchanged)
        return FrozenPrefix(leading(x, mask, queries), h, mask)

    def suffix(self, prefix: FrozenPrefix, layer: int, adapt: Adapt | None = None) -> Tensor:
        """Run from a cached prefix of `layer` to the pooled output [n,
        H]; for adapters that read no states.
        """
        adapt = adapt or unchanged
        if prefix.h is None:
            x = self._run(layer, prefix.x, prefix.mask, adapt)
        else:
            x = self._block(layer).finish(prefix.x, prefix.h, layer, adapt)
        for number in range(layer + 1, len(self.blocks)):
            x = self._run(number, x, prefix.mask, adapt)
        return self.pool(self._end(x, adapt), prefix.mask)

    def parts(self, layer: int) -> Mapping[str, nn.Module]:
        """Return the linears and layer norms of a block,
        or the norm outside the blocks, by their names at the seam.
        """
        return (
            {"norm": self.norm} if layer == OUTSIDE else dict(self.blocks[layer].named_children())
        )

    def _run(self, layer: int, x: Tensor, mask: Layout, adapt: Adapt) -> Tensor:
        if self.recomputes and torch.is_grad_enabled():
            again: Tensor = checkpoint(self._once, layer, x, mask, adapt, use_reentrant=False)
            return again
        return self._once(layer, x, mask, adapt)

    def _once(self, layer: int, x: Tensor, mask: Layout, adapt: Adapt) -> Tensor:
        block = self._block(layer)
        queries = self._queries(layer, x, adapt)
        h = block.attend(x, mask, queries, layer, adapt)
        return block.finish(leading(x, mask, queries), h, layer, adapt)

    def _queries(self, layer: int, x: Tensor, adapt: Adapt) -> int:
        last = layer == len(self.blocks) - 1
        return 1 if self.reads_one and last and not adapt.reads_tokens else x.shape[1]

    def _end(self, x: Tensor, adapt: Adapt) -> Tensor:
        return adapt.norm(OUTSIDE, "norm", self.norm, x) if self._block(0).pre_norm else x

    def _block(self, layer: int) -> Block:
        return cast("Block", self.blocks[layer])


def leading(x: Tensor, mask: Layout, queries: int) -> Tensor:
    """Take the first `queries` tokens of each item, one or all, of `x [n, T, H]`."""
    return mask.firsts(x) if isinstance(mask, Packing) and queries == 1 else x[:, :queries]


def keys_mask(mask: Layout) -> Tensor | None:
    """Turn a mask of tokens [n, T] into one of keys [n,
    1, 1, T]; packed texts see to their attention themselves.
    """
    return mask[:, None, None, :] if isinstance(mask, Tensor) else None
