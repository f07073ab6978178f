"""Held-out users over the whole catalog, by the network and the embedding that the service uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Dataset
from transrec.adapters import Adapt, Adapter
from transrec.backbone import Backbone
from transrec.embed import embed
from transrec.metrics import Ranks, rank_targets, summarise
from transrec.model import encode_users
from transrec.progress import OnProgress, OnStage


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Ranks of every user's target, and their summary."""

    ranks: Ranks
    repeated: NDArray[np.bool_]
    report: dict[str, float]


def evaluate(
    backbone: Backbone,
    adapter: Adapter | None,
    dataset: Dataset,
    *,
    split: str = "test",
    dtype: str = "auto",
    stage: OnStage | None = None,
) -> Evaluation:
    """Rank each user's held-out item among the whole catalog, all of the known history masked.

    Args:
        backbone: frozen.
        adapter: of the domain, None for the frozen backbone.
        dataset: catalog and histories.
        split: `valid` or `test`.
        dtype: of the item embedding; a bundle's manifest names the one that it was measured with.
        stage: begins a stage of the work; returns what to call with (done, total).
    """
    begin = stage or _silent
    which = "without an adapter" if adapter is None else "with the adapter"
    progress = begin(f"embed {len(dataset.contents):,} items {which}")
    vectors = embed(backbone, dataset.contents, adapter, dtype=dtype, progress=progress)
    begin(f"rank for {len(dataset.sequences):,} users")
    return rank_held_out(
        backbone, None if adapter is None else adapter.user, dataset, vectors, split
    )


def rank_held_out(
    backbone: Backbone,
    side: Adapt | None,
    dataset: Dataset,
    vectors: NDArray[np.float32],
    split: str,
) -> Evaluation:
    """Rank each user's held-out item by given item vectors [n,
    d]; `side` is the user side's adapter.
    """
    held_out = dataset.split()
    known = held_out.history(split)
    users = encode_users(backbone.model.user_encoder, known, vectors, side)
    ranks = rank_targets(users, vectors, held_out.targets(split), known)
    repeated = held_out.repeated(split)
    return Evaluation(ranks, repeated, summarise(ranks, repeated))


def _silent(_: str) -> OnProgress:
    return lambda _done, _total: None
