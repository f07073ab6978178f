from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from training.baselines import DECAY, SHRINK, baseline_reports, item_knn
from training.config import DataConfig
from training.data import load_dataset

DATA = os.environ.get("SWAPREC_TEST_DATA", "")


def test_item_knn_is_the_shrunk_cosine_of_co_occurrence_recent_items_first() -> None:
    histories = [np.array([0, 1, 2, 1]), np.array([1, 2]), np.array([2, 3]), np.array([0, 3])]
    members = np.zeros((4, 5))
    for user, row in enumerate(histories):
        members[user, row] = 1
    counts = members.sum(0) + SHRINK
    cosine = members.T @ members / np.sqrt(counts[:, None] * counts[None, :])
    found = item_knn(histories, 5)(histories).numpy()
    for user, row in enumerate(histories):
        weights = {item: DECAY ** (len(row) - 1 - place) for place, item in enumerate(row.tolist())}
        assert np.allclose(
            found[user], sum(weights[item] * cosine[item] for item in weights), atol=1e-6
        )


def test_a_log_that_repeats_its_neighbours_is_learnt_by_item_knn(log: Path) -> None:
    reports = baseline_reports(load_dataset(DataConfig(folder=log)))
    assert reports["item_knn"]["hr"] > reports["popularity"]["hr"]


@pytest.mark.skipif(not DATA, reason="SWAPREC_TEST_DATA names no folder with real data")
def test_on_real_data_the_baselines_reach_what_was_published_for_it() -> None:
    reports = baseline_reports(load_dataset(DataConfig(folder=Path(DATA) / "amazon_scientific")))
    assert reports["popularity"]["hr"] == pytest.approx(0.024, abs=0.002)
    assert reports["item_knn"]["hr"] > 0.065, "plain cosine reaches 0.046 here"
