"""TransRec: item content -> encoder -> Linear -> GELU -> item vector; history -> user vector; score = u · e."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from transrec.seam import Adapt, unchanged
from transrec.text_encoder import Pooling, TextEncoder, TextShape
from transrec.user_encoder import UserEncoder, UserShape, xavier
from transrec.window import pad_left

ENCODE_ROWS = 1024


class TransRec(nn.Module):
    """Item encoder, projection and user encoder of one backbone."""

    def __init__(self, text: TextShape, pooling: Pooling, user: UserShape) -> None:
        super().__init__()
        self.item_encoder = TextEncoder(text, pooling)
        self.projection = nn.Linear(text.hidden, user.width)
        self.user_encoder = UserEncoder(user)
        xavier(self.projection)

    def project(self, pooled: Tensor, adapt: Adapt | None = None) -> Tensor:
        """Pooled encoder output [n, H], or what `adapt` made of it -> item vectors [n, d]."""
        return (adapt or unchanged).vector(pooled, self._project)

    def _project(self, pooled: Tensor) -> Tensor:
        return F.gelu(self.projection(pooled))


@torch.inference_mode()
def encode_users(
    user_encoder: UserEncoder,
    histories: Sequence[NDArray[np.int64]],
    item_vectors: NDArray[np.float32],
    adapt: Adapt | None = None,
) -> NDArray[np.float32]:
    """Encode histories, given as rows of `item_vectors [n, d]` oldest first, to user vectors [B, d].

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
