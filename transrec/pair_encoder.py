"""The encoder of items that have a text and a picture: two encoders side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transrec.image_encoder import ImageEncoder
from transrec.seam import OUTSIDE, Adapt, unchanged
from transrec.text_encoder import AttributeTokens, TextEncoder, Tokens


@dataclass(frozen=True, slots=True)
class Pair:
    """n items: their tokens, or None where none of them has a text,
    and their pixels, or None likewise.
    """

    text: Tokens | AttributeTokens | None
    image: Tensor | None


class PairEncoder(nn.Module):
    """Text states [n, H_t] and image states [n, H_i] one after the other: [n, H_t + H_i], zeros
    where one is missing.

    The projection over both is the fusion: `GELU(W_t h_t + W_i h_i + b)`.
    """

    def __init__(self, text: TextEncoder, image: ImageEncoder) -> None:
        super().__init__()
        self.text = text
        self.image = image
        self.width = text.width + image.width

    @property
    def norm(self) -> nn.LayerNorm:
        """A weight that tells device and dtype."""
        return self.text.norm

    def parts(self, layer: int) -> dict[str, nn.Module]:
        """Return the text encoder's norm outside the blocks;
        what an adapter merges it asks each encoder for.
        """
        assert layer == OUTSIDE, "a pair has no blocks of its own"  # noqa: S101 - the parts of an adapter ask their own encoder
        return {"norm": self.norm}

    def forward(self, inputs: Pair, adapt: Adapt | None = None) -> Tensor:
        """Encode a batch in which all items have a text or none has, and likewise a picture."""
        adapt = adapt or unchanged
        return concat_states(
            None if inputs.text is None else self.text(inputs.text, adapt.part("text")),
            None if inputs.image is None else self.image(inputs.image, adapt.part("image")),
            self.widths(adapt),
        )

    def widths(self, adapt: Adapt | None) -> tuple[int, int]:
        """Return how wide the states of text and image are that come out:
        an adapter may leave several of each.
        """
        adapt = adapt or unchanged
        return self.text.width * adapt.part("text").leaves, self.image.width * adapt.part(
            "image"
        ).leaves


def concat_states(text: Tensor | None, image: Tensor | None, widths: tuple[int, int]) -> Tensor:
    """Lay states [n, …] side by side as [n, W_t + W_i], zeros where one is missing."""
    some = text if text is not None else image
    assert some is not None  # noqa: S101 - an item without text and image is refused where it comes in
    flat = [
        part.flatten(1) if part is not None else some.new_zeros(len(some), width)
        for part, width in zip((text, image), widths, strict=True)
    ]
    return torch.cat(flat, 1)
