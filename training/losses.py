"""Losses over windows: the paper's BCE (SASRec) and CPC, and the cross-entropies that train faster.

A window is L + 1 catalog rows; position t of `users` predicts item t + 1. `items` holds the vectors
of the batch's distinct items, and `places` say where in it a window's items stand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from training.cross_entropy import cross_entropy


@dataclass(frozen=True, slots=True)
class Predictions:
    """One batch after the encoders.

    users: [B, L, d] at each position. items: [m, d]. targets: [B, L] place of the next item in
    `items`. real: [B, L] True where the position has a target. own: [B, m] True where the user's
    training items are. negatives: [B, L] places of sampled items, for BCE. log_popularity: [m].
    """

    users: Tensor
    items: Tensor
    targets: Tensor
    real: Tensor
    own: Tensor
    negatives: Tensor
    log_popularity: Tensor


def bce(batch: Predictions) -> Tensor:
    """`mean softplus(-s+) + mean softplus(s-)`, one uniform negative a position (the paper's)."""
    positive = (batch.users * F.embedding(batch.targets, batch.items)).sum(-1)[batch.real]
    negative = (batch.users * F.embedding(batch.negatives, batch.items)).sum(-1)[batch.real]
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def cpc(batch: Predictions) -> Tensor:
    """The two terms of `bce` at the last position only: the paper's CPC, on the same network."""
    last = torch.zeros_like(batch.real)
    last[:, -1] = batch.real[:, -1]
    return bce(replace(batch, real=last))


def in_batch_debiased(batch: Predictions) -> Tensor:
    """Cross-entropy over the batch's items,
    `s - log popularity`, the user's own other items masked.
    """
    line = torch.arange(len(batch.own), device=batch.own.device).unsqueeze(1).expand_as(batch.real)
    return cross_entropy(
        batch.users[batch.real],
        batch.items,
        batch.targets[batch.real],
        bias=-batch.log_popularity,
        hidden=batch.own,
        line=line[batch.real],
    )


def full_softmax(batch: Predictions) -> Tensor:
    """Cross-entropy over the whole catalog; `items` is all of it."""
    return cross_entropy(batch.users[batch.real], batch.items, batch.targets[batch.real])


LOSSES = {
    "bce": bce,
    "cpc": cpc,
    "in_batch_debiased": in_batch_debiased,
    "full_softmax": full_softmax,
}
