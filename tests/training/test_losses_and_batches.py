from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.batches import Candidates, batches, cut_windows
from training.losses import Predictions, bce, full_softmax, in_batch_debiased

SEQUENCES = [
    np.array([3, 1, 4, 1, 5, 9, 2]),
    np.array([6, 5]),
    np.array([7]),
    np.array([8, 0, 8, 0]),
]


def predictions() -> Predictions:
    generator = torch.Generator().manual_seed(0)
    real = torch.tensor([[False, True, True], [True, True, True]])
    return Predictions(
        users=torch.randn(2, 3, 4, generator=generator),
        items=torch.randn(5, 4, generator=generator),
        targets=torch.tensor([[0, 1, 2], [3, 4, 3]]),
        real=real,
        own=torch.tensor([[False, True, True, False, False], [False, False, True, True, True]]),
        negatives=torch.tensor([[0, 3, 4], [0, 1, 1]]),
        log_popularity=torch.tensor([-1.0, -2.0, -3.0, -1.5, -0.5]),
    )


def positions(batch: Predictions) -> list[tuple[int, int]]:
    return [(b, t) for b in range(2) for t in range(3) if batch.real[b, t]]


def test_bce_is_the_papers_two_means() -> None:
    batch = predictions()
    positive = []
    negative = []
    for b, t in positions(batch):
        positive.append(F.softplus(-(batch.users[b, t] @ batch.items[batch.targets[b, t]])))
        negative.append(F.softplus(batch.users[b, t] @ batch.items[batch.negatives[b, t]]))
    assert bce(batch).item() == pytest.approx(
        float(sum(positive) / 5 + sum(negative) / 5), rel=1e-6
    )


def test_in_batch_masks_the_users_own_other_items_and_corrects_for_popularity() -> None:
    batch = predictions()
    terms = []
    for b, t in positions(batch):
        target = int(batch.targets[b, t])
        logits = [
            (float(batch.users[b, t] @ batch.items[i] - batch.log_popularity[i]), i)
            for i in range(5)
            if i == target or not batch.own[b, i]
        ]
        values = torch.tensor([value for value, _ in logits])
        terms.append(torch.logsumexp(values, 0) - next(value for value, i in logits if i == target))
    assert in_batch_debiased(batch).item() == pytest.approx(
        float(sum(terms) / len(terms)), rel=1e-5
    )


def test_full_softmax_is_cross_entropy_over_everything() -> None:
    batch = predictions()
    terms = [
        torch.logsumexp(batch.items @ batch.users[b, t], 0)
        - batch.users[b, t] @ batch.items[batch.targets[b, t]]
        for b, t in positions(batch)
    ]
    assert full_softmax(batch).item() == pytest.approx(float(sum(terms) / len(terms)), rel=1e-5)


def test_the_last_window_is_the_newest_and_users_without_a_target_have_none() -> None:
    windows = cut_windows(SEQUENCES, 3, "last")
    assert windows.rows.tolist() == [[1, 5, 9, 2], [0, 0, 6, 5], [8, 0, 8, 0]]
    assert windows.owner.tolist() == [0, 1, 3]
    assert windows.real[1].tolist() == [False, False, True, True]


def test_all_windows_make_every_item_but_the_first_a_target_once() -> None:
    windows = cut_windows(SEQUENCES, 3, "all")
    targets = [
        target
        for row, real, owner in zip(windows.rows, windows.real, windows.owner, strict=True)
        for target in row[1:][real[1:] & real[:-1]].tolist()
        if owner == 0
    ]
    assert sorted(targets) == [1, 1, 2, 4, 5, 9]


@pytest.mark.parametrize("candidates", ["negatives", "batch", "catalog"])
def test_a_batch_holds_its_distinct_items_and_points_at_them(candidates: Candidates) -> None:
    windows = cut_windows(SEQUENCES, 3, "all")
    for batch in batches(windows, SEQUENCES, 12, 2, np.random.default_rng(0), candidates):
        assert len(np.unique(batch.distinct)) == len(batch.distinct)
        rows = batch.distinct[batch.windows]
        for row, real, own in zip(rows, batch.real, batch.own, strict=True):
            user = next(s for s in SEQUENCES if set(row[real].tolist()) <= set(s.tolist()))
            assert set(batch.distinct[own].tolist()) == set(user.tolist()) & set(
                batch.distinct.tolist()
            )
        if candidates == "catalog":
            assert batch.distinct.tolist() == list(range(12))
        if candidates == "batch":
            assert set(batch.distinct.tolist()) == set(rows[batch.real].tolist())


def test_negatives_are_never_the_users_own_and_every_other_item_occurs() -> None:
    windows = cut_windows(SEQUENCES[:1], 6, "last")
    drawn: set[int] = set()
    for seed in range(60):
        batch = next(
            batches(windows, SEQUENCES[:1], 12, 4, np.random.default_rng(seed), "negatives")
        )
        drawn |= set(batch.distinct[batch.negatives[batch.real[:, 1:]]].tolist())
    assert drawn == set(range(12)) - set(SEQUENCES[0].tolist())


def test_an_epochs_order_depends_on_its_generator_alone() -> None:
    windows = cut_windows(SEQUENCES, 3, "all")
    one, two = (
        list(batches(windows, SEQUENCES, 12, 2, np.random.default_rng([7, 3]), "negatives"))
        for _ in range(2)
    )
    assert all(
        np.array_equal(a.distinct[a.windows], b.distinct[b.windows])
        for a, b in zip(one, two, strict=True)
    )
