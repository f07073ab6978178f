"""What a run trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.states import ItemStates
from transrec.adapters import Adapter
from transrec.backbone import Backbone

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained: the parts of the forward,
    the trained modules by name, and each one's learning rate.
    """

    backbone: Backbone
    adapter: Adapter | None
    states: ItemStates
    trained: nn.ModuleDict
    rates: dict[str, float]

    def item_vectors(self, rows: NDArray[np.int64]) -> Tensor:
        """Vectors [m, d] of distinct catalog rows, differentiable."""
        side = None if self.adapter is None else self.adapter.item
        return self.backbone.model.project(self.states.pooled(rows, side), side)

    def user_vectors(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """User vectors [B, L, d] at every position of `vectors [B, L, d]`."""
        side = None if self.adapter is None else self.adapter.user
        return self.backbone.model.user_encoder.forward(vectors, mask, side)

    def weights(self) -> Weights:
        """Return copies of everything that trains."""
        return {name: value.detach().clone() for name, value in self.trained.state_dict().items()}
