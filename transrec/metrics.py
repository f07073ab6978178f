"""Tie-aware ranks, HR and NDCG over a whole catalog: one protocol for trainer and server.

`rank = 1 + #(better) + ½ · #(other ties)`. Items with equal contents have equal vectors and
therefore tie; how such rows would count at best and at worst is reported beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from transrec.arrays import Integers

TIE_TOLERANCE = 1e-5
"""Two scores tie when they differ by less than this share
of the target's score (float32 sums differ by order).
"""

BLOCK_ROWS = 64
BLOCK_SCORES = 1_000_000
"""Users a block: enough for a fast product,
few enough for their scores to stay in the cache while they are counted.
"""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranks:
    """For each row, how many other items score better
    than its target and how many tie with it, int64 [B].
    """

    better: Integers
    ties: Integers

    @property
    def expected(self) -> Doubles:
        """Rank, 1 is best, ties counted half."""
        return self.optimistic + 0.5 * self.ties

    @property
    def optimistic(self) -> Doubles:
        """Rank if the target came first among its ties."""
        return self.better.astype(np.float64) + 1.0

    @property
    def pessimistic(self) -> Doubles:
        """Rank if the target came last among its ties."""
        return self.optimistic + self.ties


def tie_margin(score: Doubles | float) -> Doubles | float:
    """How far from a target's score another score still ties with it."""
    return np.maximum(np.abs(score) * TIE_TOLERANCE, np.finfo(np.float32).tiny)


@torch.inference_mode()
def rank_targets(
    user_vectors: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    targets: Integers,
    seen: Sequence[Integers],
) -> Ranks:
    """Rank each row's target among the whole catalog by inner product.

    Args:
        user_vectors: float32 [B, d].
        item_vectors: float32 [n, d].
        targets: int64 [B], rows of `item_vectors`.
        seen: for each row the catalog rows that are not candidates; the target itself always stays
            one.
    """
    items = torch.from_numpy(np.ascontiguousarray(item_vectors)).T
    block = max(BLOCK_ROWS, BLOCK_SCORES // max(1, len(item_vectors)))
    parts = []
    for start in range(0, len(targets), block):
        rows = slice(start, start + block)
        scores = torch.from_numpy(np.ascontiguousarray(user_vectors[rows])) @ items  # [b, n]
        parts.append(rank_scores(scores, targets[rows], seen[rows]))
    if not parts:
        return Ranks(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Ranks(np.concatenate([p.better for p in parts]), np.concatenate([p.ties for p in parts]))


def rank_scores(scores: torch.Tensor, targets: Integers, seen: Sequence[Integers]) -> Ranks:
    """Rank targets within `scores [b, n]`, which is overwritten where items are seen."""
    chosen = torch.from_numpy(targets).unsqueeze(1)
    target = scores.gather(1, chosen)
    lengths = [len(row) for row in seen]
    row_of = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    column_of = torch.from_numpy(np.concatenate([*seen, np.zeros(0, np.int64)]).astype(np.int64))
    scores[row_of, column_of] = -torch.inf
    scores.scatter_(1, chosen, target)
    margin = (target.abs() * TIE_TOLERANCE).clamp_min(torch.finfo(torch.float32).tiny)
    # Row by row: a comparison with one number, counted by numpy, is ten times as fast as either
    # over the whole block.
    above = (target + margin).flatten().tolist()
    below = (target - margin).flatten().tolist()
    rows = scores.numpy()
    better = np.array(
        [np.count_nonzero(row > limit) for row, limit in zip(rows, above, strict=True)], np.int64
    )
    near = np.array(
        [np.count_nonzero(row >= limit) for row, limit in zip(rows, below, strict=True)], np.int64
    )
    return Ranks(better, near - better - 1)


def hit_rate(ranks: Doubles, k: int = 10) -> Doubles:
    """1 where the target is among the first k, float64 [B]."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Doubles, k: int = 10) -> Doubles:
    """1 / log2(rank + 1) within the first k, else 0, float64 [B]."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def bootstrap_interval(values: Doubles, samples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over users, by resampling users with replacement."""
    if len(values) == 0:
        return (0.0, 0.0)
    rng = np.random.default_rng(seed)
    means = np.array(
        [values[rng.integers(0, len(values), len(values))].mean() for _ in range(samples)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summarise(ranks: Ranks, repeated: NDArray[np.bool_], k: int = 10) -> dict[str, float]:
    """Report HR@k and NDCG@k with intervals over users.

    Args:
        ranks: of the targets, each kept as a candidate.
        repeated: bool [B], True where the target already occurs in the history. Under the paper's
            masking such a row is a certain miss (`hr`, `ndcg`); `*_target_kept` counts it by its
            rank.
        k: length of the list.

    `tied_users` counts rows whose target ties with another item and is, at best, within the first
    k.
    """

    def masked(rank: Doubles) -> Doubles:
        return np.where(repeated, np.inf, rank)

    expected = masked(ranks.expected)
    report: dict[str, float] = {"users": len(expected), "k": k}
    for name, measure in (("hr", hit_rate), ("ndcg", ndcg)):
        values = measure(expected, k)
        low, high = bootstrap_interval(values)
        report |= {name: _mean(values), f"{name}_low": low, f"{name}_high": high}
        report[f"{name}_target_kept"] = _mean(measure(ranks.expected, k))
        report[f"{name}_optimistic"] = _mean(measure(masked(ranks.optimistic), k))
        report[f"{name}_pessimistic"] = _mean(measure(masked(ranks.pessimistic), k))
    report["tied_users"] = int(((ranks.ties > 0) & (masked(ranks.optimistic) <= k)).sum())
    report["repeated_users"] = int(repeated.sum())
    return report


def _mean(values: Doubles) -> float:
    return float(values.mean()) if len(values) else 0.0
