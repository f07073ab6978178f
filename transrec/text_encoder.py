"""The text item encoder: BERT and RoBERTa weights in post-norm blocks.

Tokens [n, T] -> embeddings -> L blocks -> pooled [n, H] (`last_hidden_state[:, 0]`, or the mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from transrec.item_encoder import BlockShape, ItemEncoder, Layout, Pooling
from transrec.packing import Packing
from transrec.seam import OUTSIDE, Adapt

Architecture = Literal["bert", "roberta"]


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
    """Token ids [n, T] and, where rows are padded, a mask [n, T] that is True at real tokens.

    Packed, ids are [R, W] and the mask is the packing.
    """

    ids: Tensor
    mask: Layout = None


@dataclass(frozen=True, slots=True)
class AttributeTokens:
    """Several texts of each item, such as title and abstract:
    the tokens of each, for the same rows.
    """

    parts: tuple[Tokens, ...]


class TextEncoder(ItemEncoder):
    """BERT or RoBERTa up to its pooled output;
    several attributes are encoded one by one and averaged.
    """

    def __init__(self, shape: TextShape, pooling: Pooling) -> None:
        super().__init__(
            shape.layers, BlockShape(shape.hidden, shape.heads, shape.intermediate, shape.norm_eps)
        )
        self.shape = shape
        self.pooling = pooling
        self.reads_one = pooling == "cls"
        self.word = nn.Embedding(shape.vocabulary, shape.hidden)
        self.position = nn.Embedding(shape.positions, shape.hidden)
        self.token_type = nn.Embedding(shape.token_types, shape.hidden)

    def forward(self, inputs: Tokens | AttributeTokens, adapt: Adapt | None = None) -> Tensor:
        """Encode tokens to [n, H] with the adapter given, or with none."""
        if isinstance(inputs, AttributeTokens):
            return torch.stack(
                [super(TextEncoder, self).forward(part, adapt) for part in inputs.parts]
            ).mean(0)
        return super().forward(inputs, adapt)

    def embed(self, inputs: Tokens, adapt: Adapt) -> tuple[Tensor, Layout]:
        """Sum word, position and type embeddings of `ids [n, T]`, and normalise."""
        ids = inputs.ids
        if isinstance(inputs.mask, Packing):
            places = inputs.mask.positions
        else:
            places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        if self.shape.architecture == "roberta":  # its positions begin after the padding id
            places = places + self.shape.pad_id + 1
        x = adapt.words(self.word(ids)) + self.position(places) + self.token_type.weight[0]
        return adapt.norm(OUTSIDE, "norm", self.norm, x), inputs.mask

    def pool(self, x: Tensor, mask: Layout) -> Tensor:
        """Take the CLS position, or the mean of the real tokens."""
        if isinstance(mask, Packing):
            if self.pooling == "mean":
                return mask.mean(x)
            return mask.firsts(x)[0] if mask.holds(x) else x[0]
        if self.pooling == "cls":
            return x[:, 0]
        if mask is None:
            return x.mean(1)
        weights = mask.to(x.dtype).unsqueeze(-1)
        return (x * weights).sum(1) / weights.sum(1)


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
    """Rename a BERT or RoBERTa state of the transformers library to ours;
    the pooler and buffers are left out.
    """
    renamed = {}
    for name, value in state.items():
        if name.startswith("pooler.") or name.endswith(("position_ids", "token_type_ids")):
            continue
        renamed[_rename(name)] = value
    return renamed


def _rename(name: str) -> str:
    stem = ""
    rest = name
    if name.startswith("encoder.layer."):
        number, rest = name.removeprefix("encoder.layer.").split(".", 1)
        stem = f"blocks.{number}."
    for theirs, ours in _RENAMED.items():
        if rest.startswith(theirs):
            return stem + ours + rest.removeprefix(theirs)
    return name
