"""Vectors are checked before they go live: finite, told apart, found by their index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.catalog.bases import Bases, Catalog
from service.catalog.live_items import LiveItems
from service.catalog.verify import find_living_rows, verify
from service.errors import VerificationFailed
from service.state import DomainRecord
from service.version import NONE

ITEMS = 100
WIDTH = 4
DIGEST = "d" * 64
RECORD = DomainRecord("movies", "f", incarnation="b1")

Vectors = NDArray[np.float32]


def vectors(seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((ITEMS, WIDTH)).astype(np.float32)


def catalog(folder: Path, matrix: Vectors, *, available: bool = True) -> LiveItems:
    """Write a base with these vectors, and open it."""
    bases = Bases(folder / "bases")
    ids = [f"i{row}" for row in range(len(matrix))]
    head = Catalog(
        1,
        np.arange(len(ids)),
        ids,
        np.zeros(len(ids)),
        np.full(len(ids), available),
    )
    with bases.writing(RECORD, head, 1, WIDTH) as base:
        base.vectors(DIGEST, "float32")[base.places] = matrix
    found = bases.newest(RECORD, DIGEST, "float32", None)
    assert found is not None
    return LiveItems.of(*found)


def check(
    items: LiveItems,
    name: str = "3",
    *,
    scale: float = 1.0,
    contents: Sequence[str] | None = None,
) -> int:
    """Verify with a user side that sums the vectors of a history, times `scale`; return how many
    histories it was asked.
    """
    asked = 0

    def encode(histories: Sequence[Sequence[int]]) -> Vectors:
        nonlocal asked
        asked += len(histories)
        sums = [items.vectors(np.array(history)).sum(0) for history in histories]
        return np.float32(scale) * np.array(sums, np.float32)

    verify(name, items, encode, 5, lambda ids: ids if contents is None else contents)
    return asked


def test_a_sound_version_passes_after_histories_of_one_item_and_of_many(tmp_path: Path) -> None:
    assert check(catalog(tmp_path, vectors())) >= 2


def test_an_empty_catalog_passes(tmp_path: Path) -> None:
    assert check(catalog(tmp_path, vectors()[:0])) == 0


def test_a_catalog_of_which_nothing_is_available_passes(tmp_path: Path) -> None:
    assert check(catalog(tmp_path, vectors(), available=False)) >= 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_counted(tmp_path: Path, value: float) -> None:
    matrix = vectors()
    matrix[7, 1] = value
    matrix[60] = value
    with pytest.raises(VerificationFailed, match="2 of 100 item vectors are not finite under"):
        check(catalog(tmp_path, matrix))


@pytest.mark.parametrize(
    ("name", "cause"),
    [("3", "the adapter collapsed"), (NONE, "the backbone cannot tell them apart")],
)
def test_different_items_with_one_vector_are_refused_with_the_cause(
    tmp_path: Path, name: str, cause: str
) -> None:
    matrix = np.repeat(vectors()[:1], ITEMS, 0)
    with pytest.raises(VerificationFailed, match=f"100 different items have only 1 .*: {cause}"):
        check(catalog(tmp_path, matrix), name)


def test_equal_items_may_have_equal_vectors(tmp_path: Path) -> None:
    matrix = np.repeat(vectors()[:1], ITEMS, 0)
    assert check(catalog(tmp_path, matrix), contents=["the same text"]) >= 2


def test_a_user_side_that_overflows_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(VerificationFailed, match="the user side overflows"),
        np.errstate(all="ignore"),
    ):
        check(catalog(tmp_path, vectors()), scale=np.inf)


def test_an_index_that_answers_from_other_vectors_is_refused(tmp_path: Path) -> None:
    items = catalog(tmp_path, vectors())
    other = catalog(tmp_path / "other", vectors(1))
    with pytest.raises(VerificationFailed, match="does not answer from its own vectors"):
        check(replace(items, index=other.index))


def test_living_rows_leave_out_what_the_delta_replaced(tmp_path: Path) -> None:
    items = catalog(tmp_path, vectors())
    assert find_living_rows(items).tolist() == list(range(ITEMS))
    dead = replace(items, delta=replace(items.delta, dead=np.array([0, 5])))
    assert find_living_rows(dead).tolist() == [row for row in range(ITEMS) if row not in (0, 5)]
