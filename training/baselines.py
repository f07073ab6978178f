"""What any adapter must beat: popularity,
popularity of last clicks, and item-kNN, by the same protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.data import Dataset, Split
from transrec.metrics import Ranks, rank_scores, summarise

BLOCK_USERS = 512
DECAY = 0.8
SHRINK = 10.0

Scores = Callable[[Sequence[NDArray[np.int64]]], torch.Tensor]
"""Histories [b] -> float32 scores [b, n]."""


def baseline_reports(
    dataset: Dataset, split: str = "test", k: int = 10
) -> dict[str, dict[str, float]]:
    """Report HR@k and NDCG@k of each baseline over the whole catalog, history masked."""
    held_out = dataset.split()
    items = len(dataset.contents)
    known = held_out.history(split)
    clicks = np.concatenate(known) if known else np.zeros(0, np.int64)
    last = np.array([row[-1] for row in known], np.int64)
    scorers: dict[str, Scores] = {
        "popularity": _constant(np.bincount(clicks, minlength=items)),
        "recent_popularity": _constant(np.bincount(last, minlength=items)),
        "item_knn": item_knn(known, items),
    }
    return {name: _report(scores, held_out, split, k) for name, scores in scorers.items()}


def item_knn(histories: Sequence[NDArray[np.int64]], items: int) -> Scores:
    """Cosine of co-occurrence, shrunk, recent items first.

    `score(u, i) = Σ_h 0.8^age(h) · |users of h and i| / √((|h| + 10)·(|i| + 10))` over the user's
    items h, where age is 0 for the latest. Both terms were chosen to make the baseline strong on
    short and on long histories; see the lab notes. The item-item matrix is never built: two
    products with the sparse user-item matrix give a block of users.
    """
    users = np.repeat(np.arange(len(histories)), [len(row) for row in histories])
    pairs = np.unique(np.stack([users, np.concatenate(histories)]), axis=1)
    ones = torch.ones(pairs.shape[1])
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(pairs), ones, (len(histories), items), check_invariants=True
    )
    matrix = matrix.coalesce()
    transposed = matrix.t().coalesce()
    norm = (
        torch.from_numpy(np.bincount(pairs[1], minlength=items))
        .float()
        .add(SHRINK)
        .rsqrt()
        .unsqueeze(1)
    )  # [n, 1]

    def scores(block: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        weights = np.zeros((items, len(block)), np.float32)
        for column, history in enumerate(block):
            # Of an item that recurs the last weight stays, the largest.
            weights[history, column] = DECAY ** np.arange(len(history) - 1, -1, -1)
        shared = torch.sparse.mm(matrix, torch.from_numpy(weights) * norm)  # [users, b]
        items_by_users: torch.Tensor = torch.sparse.mm(transposed, shared) * norm  # [n, b]
        return items_by_users.T.contiguous()

    return scores


def _constant(counts: NDArray[np.int64]) -> Scores:
    row = torch.from_numpy(counts.astype(np.float32))
    return lambda block: row.repeat(len(block), 1)


def _report(scores: Scores, held_out: Split, split: str, k: int) -> dict[str, float]:
    histories = held_out.history(split)
    targets = held_out.targets(split)
    parts = []
    for start in range(0, len(targets), BLOCK_USERS):
        rows = slice(start, start + BLOCK_USERS)
        parts.append(rank_scores(scores(histories[rows]), targets[rows], histories[rows]))
    ranks = Ranks(
        np.concatenate([part.better for part in parts]),
        np.concatenate([part.ties for part in parts]),
    )
    return summarise(ranks, held_out.repeated(split), k)
