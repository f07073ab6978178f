"""What a figure says, in one sentence, wherever it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from training.figures import Figure, compare_with_baselines, describe_basis, describe_metrics


def hr(value: float, margin: float = 0.02) -> dict[str, float]:
    return {"hr": value, "hr_low": value - margin, "hr_high": value + margin}


def test_a_figure_above_all_baselines_needs_no_sentence() -> None:
    assert compare_with_baselines(hr(0.3), {"none": hr(0.1), "item_knn": hr(0.2)}) == ""


def test_the_baselines_that_a_figure_misses_are_named_strongest_first_in_one_sentence() -> None:
    baselines = {
        "none": hr(0.1),
        "popularity": hr(0.21),
        "recent_popularity": hr(0.27),
        "item_knn": hr(0.31),
    }
    said = compare_with_baselines(hr(0.22), baselines)
    assert said == (
        "HR@10 0.2200 [0.2000, 0.2400] is below item-kNN (0.3100) and recent popularity (0.2700) "
        "and not better than popularity (0.2100) within the 95 % intervals."
    )


def test_intervals_that_meet_are_no_win_even_where_the_figure_is_higher() -> None:
    said = compare_with_baselines(hr(0.22), {"popularity": hr(0.20)})
    assert "is not better than popularity (0.2000) within the 95 % intervals." in said
    assert "below" not in said


def test_a_baseline_without_an_interval_is_a_point() -> None:
    assert "below item-kNN (0.3000)" in compare_with_baselines(hr(0.2), {"item_knn": {"hr": 0.3}})
    assert compare_with_baselines(hr(0.2), {"item_knn": {"hr": 0.17}}) == ""


@pytest.mark.parametrize(
    ("test", "baselines"),
    [
        (None, {}),
        ({}, {"none": hr(0.1)}),
        ({"hr": "high"}, {"none": hr(0.1)}),
        ({"hr": float("nan")}, {"none": hr(0.1)}),
        ({"hr": True}, {"none": hr(0.1)}),
        (hr(0.1), None),
        (hr(0.1), {"none": "better", "item_knn": {"hr": None}}),
        (hr(0.1), ["none"]),
    ],
)
def test_what_is_no_number_is_left_out(test: Any, baselines: Any) -> None:
    assert compare_with_baselines(test, baselines) == ""


def test_a_figure_names_users_items_seed_and_data() -> None:
    assert (
        describe_basis(16_859, 6_040, 0, "3f2a91c4aa")
        == "6,040 users, 16,859 items, seed 0, data 3f2a91c4"
    )
    assert describe_basis(users=60) == "60 users"
    assert describe_metrics({"test": {"users": 60}}, "") == "60 users"
    assert describe_metrics({"test": "good", "items": "many", "seed": None}, "") == ""
    assert str(Figure(0.25, 0.2, 0.3)) == "0.2500 [0.2000, 0.3000]"
