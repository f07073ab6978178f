"""The text item encoder: BERT and RoBERTa weights, run by our own loop so that the adapter is an argument.

Tokens [n, T] -> embeddings -> L post-norm blocks -> pooled [n, H] (`last_hidden_state[:, 0]`, or the mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transrec.seam import EMBEDDING, Adapt, unchanged

Architecture = Literal["bert", "roberta"]
Pooling = Literal["cls", "mean"]


@dataclass(frozen=True, slots=True)
class TextShape:
    """Sizes of a text encoder, as its checkpoint's own config gives them."""

    architecture: Architecture
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    token_types: int
    norm_eps: float
    pad_id: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids [n, T] and, where rows are padded, a mask [n, T] that is True at real tokens."""

    ids: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True, slots=True)
class FrozenPrefix:
    """All that can be known of an item before its first adapter: a state to cache.

    `x` is the input of the first adapted block and `h` its attention's output, both [n, T, H]; T is 1 where
    the block is the last one and the pooling reads the CLS position only. Where the attention itself is adapted,
    `h` is None and `x` has all tokens. `mask` is [n, T] or None.
    """

    x: Tensor
    h: Tensor | None
    mask: Tensor | None


class Block(nn.Module):
    """One post-norm transformer block."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.hidden, shape.hidden)
        self.key = nn.Linear(shape.hidden, shape.hidden)
        self.value = nn.Linear(shape.hidden, shape.hidden)
        self.attention_out = nn.Linear(shape.hidden, shape.hidden)
        self.attention_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.ffn_in = nn.Linear(shape.hidden, shape.intermediate)
        self.ffn_out = nn.Linear(shape.intermediate, shape.hidden)
        self.ffn_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)

    def attend(self, x: Tensor, mask: Tensor | None, queries: Tensor, layer: int, adapt: Adapt) -> Tensor:
        """Attention's output [n, Q, H] for `queries [n, Q, H]` over `x [n, T, H]`, before the residual."""
        q = self._split(adapt.linear(layer, "query", self.query, queries))
        k = self._split(adapt.linear(layer, "key", self.key, x))
        v = self._split(adapt.linear(layer, "value", self.value, x))
        k, v, keys = adapt.extend(layer, k, v, _keys(mask))
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)  # [n, heads, Q, H/heads]
        return adapt.linear(layer, "attention_out", self.attention_out, h.transpose(1, 2).flatten(2))

    def finish(self, x: Tensor, h: Tensor, layer: int, adapt: Adapt) -> Tensor:
        """Run the block from its attention's output `h` on; `x` is its input, both [n, T, H]."""
        a = adapt.norm(layer, "attention_norm", self.attention_norm, x + adapt.after(layer, "attention", x, h))
        f = F.gelu(adapt.linear(layer, "ffn_in", self.ffn_in, a))
        f = adapt.linear(layer, "ffn_out", self.ffn_out, f)
        return adapt.norm(layer, "ffn_norm", self.ffn_norm, a + adapt.after(layer, "ffn", a, f))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [n, heads, T, H/heads]


class TextEncoder(nn.Module):
    """BERT or RoBERTa up to its pooled output."""

    def __init__(self, shape: TextShape, pooling: Pooling) -> None:
        super().__init__()
        self.shape = shape
        self.pooling = pooling
        self.word = nn.Embedding(shape.vocabulary, shape.hidden)
        self.position = nn.Embedding(shape.positions, shape.hidden)
        self.token_type = nn.Embedding(shape.token_types, shape.hidden)
        self.norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))

    def forward(self, tokens: Tokens, adapt: Adapt | None = None) -> Tensor:
        """Encode `tokens [n, T]` to [n, H] with the adapter given, or with none."""
        adapt = adapt or unchanged
        x, mask = adapt.enter(self._embed(tokens.ids, adapt), tokens.mask)
        states = {0: x} if 0 in adapt.reads else {}
        for layer in range(self.shape.layers):
            x = self._run(layer, x, mask, adapt)
            if layer + 1 in adapt.reads:
                states[layer + 1] = x

        def pool(state: Tensor) -> Tensor:
            return self._pool(state[:, : tokens.ids.shape[1]], tokens.mask)  # what was added behind is not pooled

        return adapt.leave(x, states, _keys(mask), pool) if adapt.reads else pool(x)

    def prefix(self, tokens: Tokens, layer: int, *, attention: bool = True) -> FrozenPrefix:
        """Run everything below the first adapted block's first adapter.

        Args:
            tokens: of the items.
            layer: the first adapted block.
            attention: whether its attention is still frozen, and so a part of the prefix.
        """
        x = self._embed(tokens.ids, unchanged)
        for below in range(layer):
            x = self._run(below, x, tokens.mask, unchanged)
        if not attention:
            return FrozenPrefix(x, None, tokens.mask)
        queries = x[:, :1] if self._reads_cls_only(layer, unchanged) else x
        h = self._block(layer).attend(x, tokens.mask, queries, layer, unchanged)
        return FrozenPrefix(queries, h, tokens.mask)

    def suffix(self, prefix: FrozenPrefix, layer: int, adapt: Adapt | None = None) -> Tensor:
        """Run from a cached prefix of `layer` to the pooled output [n, H]; for adapters that read no states."""
        adapt = adapt or unchanged
        if prefix.h is None:
            x = self._run(layer, prefix.x, prefix.mask, adapt)
        else:
            x = self._block(layer).finish(prefix.x, prefix.h, layer, adapt)
        for number in range(layer + 1, self.shape.layers):
            x = self._run(number, x, prefix.mask, adapt)
        return self._pool(x, prefix.mask)

    def parts(self, layer: int) -> Mapping[str, nn.Module]:
        """Return the linears and layer norms of a block, or the norm before the first, by their names at the seam."""
        return {"norm": self.norm} if layer == EMBEDDING else dict(self.blocks[layer].named_children())

    def _run(self, layer: int, x: Tensor, mask: Tensor | None, adapt: Adapt) -> Tensor:
        block = self._block(layer)
        queries = x[:, :1] if self._reads_cls_only(layer, adapt) else x
        return block.finish(queries, block.attend(x, mask, queries, layer, adapt), layer, adapt)

    def _reads_cls_only(self, layer: int, adapt: Adapt) -> bool:
        return self.pooling == "cls" and layer == self.shape.layers - 1 and not adapt.reads_tokens

    def _block(self, layer: int) -> Block:
        return cast("Block", self.blocks[layer])

    def _embed(self, ids: Tensor, adapt: Adapt) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        if self.shape.architecture == "roberta":  # its positions begin after the padding id
            places = places + self.shape.pad_id + 1
        x = adapt.words(self.word(ids)) + self.position(places) + self.token_type.weight[0]
        return adapt.norm(EMBEDDING, "norm", self.norm, x)

    def _pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.pooling == "cls":
            return x[:, 0]
        if mask is None:
            return x.mean(1)
        weights = mask.to(x.dtype).unsqueeze(-1)
        return (x * weights).sum(1) / weights.sum(1)


def _keys(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask[:, None, None, :]  # [n, 1, 1, T]


_RENAMED = {
    "embeddings.word_embeddings.": "word.",
    "embeddings.position_embeddings.": "position.",
    "embeddings.token_type_embeddings.": "token_type.",
    "embeddings.LayerNorm.": "norm.",
    "attention.self.query.": "query.",
    "attention.self.key.": "key.",
    "attention.self.value.": "value.",
    "attention.output.dense.": "attention_out.",
    "attention.output.LayerNorm.": "attention_norm.",
    "intermediate.dense.": "ffn_in.",
    "output.dense.": "ffn_out.",
    "output.LayerNorm.": "ffn_norm.",
}


def from_library_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a BERT or RoBERTa state of the transformers library to ours; the pooler and buffers are left out."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("pooler.") or name.endswith(("position_ids", "token_type_ids")):
            continue
        renamed[_rename(name)] = value
    return renamed


def _rename(name: str) -> str:
    stem, rest = "", name
    if name.startswith("encoder.layer."):
        number, rest = name.removeprefix("encoder.layer.").split(".", 1)
        stem = f"blocks.{number}."
    for theirs, ours in _RENAMED.items():
        if rest.startswith(theirs):
            return stem + ours + rest.removeprefix(theirs)
    return name
