"""The image item encoder: Vision Transformer weights (ViT, MAE, DeiT, DINO) in pre-norm blocks.

Pixels, uint8 [n, 3, S, S] -> patches and learned first tokens [n, T, H] -> L blocks -> norm ->
pooled [n, H]. MAE runs on all patches: nothing is masked, at training or at serving.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transrec.images import Preprocessing
from transrec.item_encoder import BlockShape, ItemEncoder, Layout, Pooling
from transrec.seam import Adapt


@dataclass(frozen=True, slots=True)
class ImageShape:
    """Sizes of an image encoder, and how its checkpoint wants pictures prepared.

    Attributes:
        layers: blocks L.
        hidden: width H.
        heads: of the attention.
        intermediate: width of the feed-forward sublayer.
        patch: side of a patch in pixels.
        first: tokens before those of the patches: CLS, and a distillation or register tokens.
        norm_eps: of the layer norms.
        qkv_bias: whether query, key and value have biases.
        preprocessing: of the pictures; its size S is the encoder's.
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int
    patch: int
    first: int
    norm_eps: float
    preprocessing: Preprocessing
    qkv_bias: bool = True

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.preprocessing.size // self.patch) ** 2


class ImageEncoder(ItemEncoder):
    """A Vision Transformer up to its pooled output."""

    def __init__(self, shape: ImageShape, pooling: Pooling) -> None:
        block = BlockShape(
            shape.hidden,
            shape.heads,
            shape.intermediate,
            shape.norm_eps,
            pre_norm=True,
            qkv_bias=shape.qkv_bias,
        )
        super().__init__(shape.layers, block)
        self.shape = shape
        self.pooling = pooling
        self.reads_one = pooling == "cls"
        self.patch = nn.Conv2d(3, shape.hidden, shape.patch, shape.patch)
        # Their positions are added already.
        self.first = nn.Parameter(torch.randn(shape.first, shape.hidden) * 0.02)
        self.position = nn.Parameter(torch.randn(shape.patches, shape.hidden) * 0.02)

    def embed(self, inputs: Tensor, adapt: Adapt) -> tuple[Tensor, Tensor | None]:
        """Turn pixels, uint8 [n, 3, S, S], into tokens [n, T, H]; there are no pads."""
        patches = self.patch(self._normal(inputs)).flatten(2).transpose(1, 2)
        first = self.first.expand(len(inputs), -1, -1)
        return torch.cat([first, adapt.words(patches + self.position)], 1), None

    def _normal(self, inputs: Tensor) -> Tensor:
        """Normalise in float32, whatever the weights are in."""
        wanted = self.shape.preprocessing
        mean, std = (
            torch.tensor(given, device=inputs.device).view(3, 1, 1)
            for given in (wanted.mean, wanted.std)
        )
        return ((inputs.float() / 255 - mean) / std).to(self.patch.weight.dtype)

    def pool(self, x: Tensor, mask: Layout) -> Tensor:  # noqa: ARG002 - images are never padded
        """Take the CLS token, or the mean of the patches."""
        return x[:, 0] if self.pooling == "cls" else x[:, self.shape.first :].mean(1)


_TIMM = {
    "norm1.": "attention_norm.",
    "norm2.": "ffn_norm.",
    "attn.proj.": "attention_out.",
    "mlp.fc1.": "ffn_in.",
    "mlp.fc2.": "ffn_out.",
}
_TRANSFORMERS = {
    "layernorm_before.": "attention_norm.",
    "layernorm_after.": "ffn_norm.",
    "attention.q_proj.": "query.",
    "attention.k_proj.": "key.",
    "attention.v_proj.": "value.",
    "attention.o_proj.": "attention_out.",
    "mlp.fc1.": "ffn_in.",
    "mlp.fc2.": "ffn_out.",
}
_QKV = ("query", "key", "value")


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state of timm's VisionTransformer to ours.

    Layer scales are multiplied into the linear before them, query, key and value are told apart,
    and the positions of the first tokens are added to them. The head is left out.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if block is None:
            continue
        stem = f"blocks.{block[1]}."
        if block[2].startswith("attn.qkv."):
            last = block[2].removeprefix("attn.qkv.")
            renamed |= {
                f"{stem}{part}.{last}": third
                for part, third in zip(_QKV, value.chunk(3), strict=True)
            }
        elif not block[2].startswith(("ls1.", "ls2.")):
            renamed[stem + _ours(block[2], _TIMM)] = value
    for name, value in state.items():
        scale = re.fullmatch(r"blocks\.(\d+)\.(ls1|ls2)\.gamma", name)
        if scale is not None:
            linear = f"blocks.{scale[1]}." + ("attention_out" if scale[2] == "ls1" else "ffn_out")
            renamed[f"{linear}.weight"] = renamed[f"{linear}.weight"] * value[:, None]
            renamed[f"{linear}.bias"] = renamed[f"{linear}.bias"] * value
    learned = [state[name][0] for name in ("cls_token", "dist_token", "reg_token") if name in state]
    first = torch.cat(learned)
    position = state["pos_embed"][0]
    # Averaged heads normalise after the pooling.
    norm = "norm." if "norm.weight" in state else "fc_norm."
    return renamed | _outside(first, position, state, "patch_embed.proj.", norm)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state of the transformers library's ViT or ViTMAE to ours."""
    renamed = {}
    for name, value in state.items():
        block = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
        if block is not None:
            renamed[f"blocks.{block[1]}." + _ours(block[2], _TRANSFORMERS)] = value
    first = state["embeddings.cls_token"][0]
    position = state["embeddings.position_embeddings"][0]
    return renamed | _outside(
        first, position, state, "embeddings.patch_embeddings.projection.", "layernorm."
    )


def _outside(
    first: Tensor, position: Tensor, state: Mapping[str, Tensor], patch: str, norm: str
) -> dict[str, Tensor]:
    """Return what lies outside the blocks;
    `position` covers the patches, and the first tokens or some of them.
    """
    patches = len(position)
    grid = int(patches**0.5) ** 2
    own = patches - grid  # positions of first tokens stand at the beginning
    first = first.clone()
    first[:own] += position[:own]
    return {
        "first": first,
        "position": position[own:],
        "patch.weight": state[f"{patch}weight"],
        "patch.bias": state[f"{patch}bias"],
        "norm.weight": state[f"{norm}weight"],
        "norm.bias": state[f"{norm}bias"],
    }


def _ours(name: str, table: Mapping[str, str]) -> str:
    for theirs, ours in table.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise KeyError(name)
