from __future__ import annotations

import numpy as np
import pytest

from transrec.metrics import Ranks, bootstrap_interval, hit_rate, ndcg, rank_targets, summarise


def ranks_by_sorting(
    users: np.ndarray, items: np.ndarray, targets: np.ndarray, seen: list[np.ndarray]
) -> list[int]:
    """The authors' way: one sort a user."""
    ranks = []
    for user, target, removed in zip(users, targets, seen, strict=True):
        scores = items @ user
        scores[[row for row in removed if row != target]] = -np.inf
        ranks.append(1 + list(np.argsort(-scores)).index(target))
    return ranks


def test_ranks_equal_those_of_sorting_each_users_scores() -> None:
    rng = np.random.default_rng(0)
    users = rng.standard_normal((50, 8), np.float32)
    items = rng.standard_normal((200, 8), np.float32)
    targets = rng.integers(0, 200, 50)
    seen = [rng.integers(0, 200, rng.integers(0, 30)) for _ in range(50)]
    seen[7] = np.array([targets[7], targets[7], 3])
    found = rank_targets(users, items, targets, seen)
    assert found.ties.sum() == 0
    assert found.expected.tolist() == ranks_by_sorting(users, items, targets, seen)


def test_ties_count_half_and_are_bounded_on_both_sides() -> None:
    items = np.array([[2.0], [1.0], [1.0], [1.0], [0.5]], np.float32)
    found = rank_targets(
        np.ones((1, 1), np.float32), items, np.array([2]), [np.array([], np.int64)]
    )
    assert (found.expected[0], found.optimistic[0], found.pessimistic[0]) == (3.0, 2.0, 4.0)


def test_a_seen_item_that_ties_is_no_tie() -> None:
    items = np.ones((4, 1), np.float32)
    found = rank_targets(np.ones((1, 1), np.float32), items, np.array([0]), [np.array([1, 1, 2])])
    assert found.ties.tolist() == [1]


def test_measures_are_their_formulas() -> None:
    ranks = np.array([1.0, 2.5, 10.0, 11.0])
    assert hit_rate(ranks).tolist() == [1, 1, 1, 0]
    assert ndcg(ranks) == pytest.approx([1.0, 1 / np.log2(3.5), 1 / np.log2(11), 0.0])


def test_a_repeated_target_is_a_miss_under_masking_and_counted_when_kept() -> None:
    report = summarise(
        Ranks(np.array([0, 0, 40]), np.zeros(3, np.int64)), np.array([True, False, False])
    )
    assert report["hr"] == pytest.approx(1 / 3)
    assert report["hr_target_kept"] == pytest.approx(2 / 3)
    assert report["repeated_users"] == 1


def test_tied_rows_are_reported_at_best_and_at_worst() -> None:
    report = summarise(Ranks(np.array([8, 0]), np.array([5, 0])), np.array([False, False]))
    assert (report["hr_optimistic"], report["hr_pessimistic"], report["tied_users"]) == (
        1.0,
        0.5,
        1,
    )


def test_the_interval_holds_the_mean_and_narrows_with_users() -> None:
    rng = np.random.default_rng(1)
    few = rng.random(50)
    many = rng.random(5000)
    low, high = bootstrap_interval(few)
    assert low < few.mean() < high
    low_many, high_many = bootstrap_interval(many)
    assert high_many - low_many < (high - low) / 3


def test_no_users_give_zeros_not_an_error() -> None:
    empty = rank_targets(
        np.zeros((0, 4), np.float32), np.zeros((3, 4), np.float32), np.zeros(0, np.int64), []
    )
    assert summarise(empty, np.zeros(0, np.bool_))["hr"] == 0.0
