from __future__ import annotations

from pathlib import Path

import numpy as np

from service.catalog.bases import Base
from service.catalog.ids import Ids
from service.catalog.live_items import LiveItems
from service.engine.search import search


def catalog(seed: int, count: int = 30) -> LiveItems:
    vectors = np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)
    base = Base(
        Path(),
        1,
        Ids.of([f"i{n}" for n in range(count)]),
        np.zeros(count),
        np.arange(count, dtype=np.int32),
        count,
    )
    return LiveItems.of(base, vectors)


def test_each_user_is_searched_in_its_own_catalog_with_its_own_k() -> None:
    one = catalog(1)
    other = catalog(2)
    users = np.random.default_rng(3).standard_normal((4, 16)).astype(np.float32)
    wanted = [(one, 3), (other, 5), (one, 7), (other, 1)]
    found = dict(search(wanted, users))
    assert sorted(found) == [0, 1, 2, 3]
    for place, (items, k) in enumerate(wanted):
        answer = found[place]
        assert isinstance(answer, tuple)
        scores, rows = items.search(users[place : place + 1], k)
        assert answer[1].tolist() == rows[0].tolist()
        assert np.allclose(answer[0], scores[0], atol=1e-5)


def test_a_user_vector_that_is_not_finite_is_an_error_for_that_user_alone() -> None:
    items = catalog(1)
    users = np.ones((3, 16), np.float32)
    users[1, 4] = np.nan
    found = dict(search([(items, 2)] * 3, users))
    assert isinstance(found[1], FloatingPointError)
    assert all(isinstance(found[place], tuple) for place in (0, 2))


def test_an_empty_catalog_has_nothing_to_find() -> None:
    empty = LiveItems.of(Base.empty(0), np.zeros((0, 16), np.float32))
    scores, rows = empty.search(np.ones((2, 16), np.float32), 5)
    assert scores.shape == rows.shape == (2, 0)
