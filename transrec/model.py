"""TransRec: item content -> encoder -> Linear -> GELU -> item vector;
history -> user vector; score = u · e.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from transrec.image_encoder import ImageEncoder
from transrec.pair_encoder import PairEncoder
from transrec.seam import Adapt, unchanged
from transrec.text_encoder import TextEncoder
from transrec.user_encoder import UserEncoder, UserShape, xavier
from transrec.window import pad_left

ENCODE_ROWS = 1024

AnyEncoder = TextEncoder | ImageEncoder | PairEncoder


class TransRec(nn.Module):
    """Item encoder, projection and user encoder of one backbone;
    the item encoder of two is a pair.
    """

    def __init__(
        self, text: TextEncoder | None, image: ImageEncoder | None, user: UserShape
    ) -> None:
        super().__init__()
        found = (
            PairEncoder(text, image) if text is not None and image is not None else text or image
        )
        assert found is not None  # noqa: S101 - a config without either is refused
        self.item_encoder = found
        self.projection = nn.Linear(found.width, user.width)
        self.user_encoder = UserEncoder(user)
        xavier(self.projection)

    @property
    def text_encoder(self) -> TextEncoder | None:
        """The encoder of texts, if there is one."""
        encoder = self.item_encoder
        return (
            encoder.text
            if isinstance(encoder, PairEncoder)
            else encoder
            if isinstance(encoder, TextEncoder)
            else None
        )

    @property
    def image_encoder(self) -> ImageEncoder | None:
        """The encoder of images, if there is one."""
        encoder = self.item_encoder
        if isinstance(encoder, PairEncoder):
            return encoder.image
        return encoder if isinstance(encoder, ImageEncoder) else None

    def project(self, pooled: Tensor, adapt: Adapt | None = None) -> Tensor:
        """Pooled encoder output [n, H], or what `adapt` made of it -> item vectors [n, d]."""
        return (adapt or unchanged).vector(pooled, self._project)

    def _project(self, pooled: Tensor) -> Tensor:
        return F.gelu(self.projection(pooled))


def draw(encoder: nn.Module) -> None:
    """Draw an item encoder's weights as BERT and ViT
    are before pretraining: N(0, 0.02²), biases zero.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.inference_mode()
def encode_users(
    user_encoder: UserEncoder,
    histories: Sequence[NDArray[np.int64]],
    item_vectors: NDArray[np.float32],
    adapt: Adapt | None = None,
) -> NDArray[np.float32]:
    """Encode histories, given as rows of `item_vectors [n, d]` oldest first, to user vectors [B,
    d].

    An empty history is allowed and gives a finite vector that means nothing.
    """
    device = user_encoder.position.weight.device
    adapt = adapt and adapt.for_serving(user_encoder)
    encoded = []
    for start in range(0, len(histories), ENCODE_ROWS):
        rows, mask = pad_left(histories[start : start + ENCODE_ROWS], user_encoder.shape.history)
        real = torch.from_numpy(mask).to(device)
        vectors = torch.from_numpy(item_vectors[rows]).to(device) * real.unsqueeze(-1)
        encoded.append(user_encoder(vectors, real, adapt, last_only=True).cpu())
    if not encoded:
        return np.zeros((0, user_encoder.shape.width), dtype=np.float32)
    result: NDArray[np.float32] = torch.cat(encoded).numpy()
    return result
