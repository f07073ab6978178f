"""Cross-entropy of users against items, in blocks of rows: the scores of a whole batch never stand
in memory.

The gradient is a product of the same scores, so each block leaves its share of it before the next
one begins. Against `F.cross_entropy(users @ items.T)` that is the same number from a fraction of
the memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK_SCORES = 1 << 20
"""Scores of a block: 4 MB of float32 stay in the cache."""


def cross_entropy(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    hidden: Tensor | None = None,
    line: Tensor | None = None,
) -> Tensor:
    """Return `mean_r (log Σ_j exp z_rj − z_r,target)` with `z = users @ itemsᵀ + bias`, over the
    items not hidden.

    Args:
        users: [R, d].
        items: [m, d].
        targets: [R] place in `items`; a target is never hidden.
        bias: [m] added to each item's scores; no gradient flows into it.
        hidden: [B, m], True where an item does not compete, and
        line: [R], which of its lines is a row's.
    """
    loss: Tensor = _CrossEntropy.apply(users, items, targets, bias, hidden, line)
    return loss


class _CrossEntropy(torch.autograd.Function):
    """Both gradients are computed on the way forward; backward scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        hidden: Tensor | None,
        line: Tensor | None,
    ) -> Tensor:
        count = len(users)
        size = max(1, BLOCK_SCORES // max(1, len(items)))
        by_users = torch.empty_like(users)
        by_items = torch.zeros_like(items)
        total = users.new_zeros(())
        for start in range(0, count, size):
            rows = slice(start, start + size)
            target = targets[rows].unsqueeze(1)
            scores = users[rows] @ items.T  # [b, m]
            if bias is not None:
                scores += bias
            if hidden is not None and line is not None:
                scores.masked_fill_(hidden[line[rows]].scatter(1, target, value=False), -torch.inf)
            logs = scores.sub_(scores.logsumexp(1, keepdim=True))
            total -= logs.gather(1, target).sum()
            slope = logs.exp_().div_(count)
            slope.scatter_add_(
                1, target, slope.new_full(target.shape, -1 / count)
            )  # (softmax − one-hot) / R
            by_users[rows] = slope @ items
            by_items.addmm_(slope.T, users[rows])
        ctx.save_for_backward(by_users, by_items)
        return total / count

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        by_users, by_items = ctx.saved_tensors
        return by_users * slopes[0], by_items * slopes[0], None, None, None, None
