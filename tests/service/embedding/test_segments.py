"""Vectors on disk answer as a dictionary would, whatever was added, merged or damaged."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.embedding import segments
from service.embedding.segments import SUFFIX, Segments, as_keys
from transrec.content import KEY_BYTES

WIDTH = 2
POOL = range(12)


def key_of(number: int) -> bytes:
    return (number * 7919).to_bytes(8, "big") + bytes(KEY_BYTES - 8)


def alike(number: int) -> bytes:
    """A key that begins as every third one does."""
    return (number % 3).to_bytes(8, "big") + number.to_bytes(KEY_BYTES - 8, "big")


def vectors_of(numbers: list[int]) -> np.ndarray:
    return np.array([[number, -number] for number in numbers], np.float32).reshape(-1, WIDTH)


def found_in(folder: Path, reader: Segments | None = None) -> dict[int, list[float]]:
    """Look the whole pool up; return the vectors that are there."""
    out = np.full((len(POOL), WIDTH), np.nan, np.float32)
    there = (reader or Segments(folder, WIDTH)).look_up(
        as_keys([key_of(number) for number in POOL]), out
    )
    assert np.isnan(out[~there]).all(), "the row of a key that is not there is left alone"
    return {number: out[number].tolist() for number in POOL if there[number]}


ADDITIONS = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from(POOL), max_size=6)), max_size=12
)
"""Who adds, one of two, and which numbers; also the same number twice."""


@given(ADDITIONS)
def test_everything_that_was_added_is_found_by_everybody_however_often_it_is_merged(
    additions: list[tuple[bool, list[int]]],
) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "MAX_SEGMENTS", 2)
        folder = Path(name)
        two = Segments(folder, WIDTH), Segments(folder, WIDTH)
        model: dict[int, list[float]] = {}
        for who, numbers in additions:
            two[who].add(as_keys([key_of(number) for number in numbers]), vectors_of(numbers))
            model |= {number: [number, -number] for number in numbers}
            assert found_in(folder, two[not who]) == model
        assert found_in(folder) == model
        assert len(list(folder.glob(f"*{SUFFIX}"))) <= 2
        assert all(path.suffix == SUFFIX or path.name == segments.LOCK for path in folder.iterdir())


@given(st.lists(st.lists(st.sampled_from(POOL), min_size=1), max_size=4))
def test_a_key_never_gets_the_vector_of_another_that_begins_alike(
    additions: list[list[int]],
) -> None:
    with TemporaryDirectory() as name:
        kept = Segments(Path(name), WIDTH)
        for numbers in additions:
            kept.add(as_keys([alike(number) for number in numbers]), vectors_of(numbers))
        out = np.zeros((len(POOL), WIDTH), np.float32)
        there = kept.look_up(as_keys([alike(number) for number in POOL]), out)
        added = {number for numbers in additions for number in numbers}
        hit = [number for number in POOL if there[number]]
        assert set(hit) <= added
        assert out[hit].tolist() == vectors_of(hit).tolist()


@given(
    st.lists(st.sampled_from(POOL), min_size=1, unique=True),
    st.lists(st.sampled_from(POOL), min_size=1, unique=True),
    st.data(),
)
def test_a_damaged_file_counts_as_absent_and_spoils_no_other(
    numbers: list[int], others: list[int], data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        Segments(folder, WIDTH).add(
            as_keys([key_of(number) for number in numbers]), vectors_of(numbers)
        )
        [path] = folder.glob(f"*{SUFFIX}")
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1), "damaged byte")
        if data.draw(st.booleans(), "cut"):
            path.write_bytes(content[:place])
        else:
            content[place] ^= data.draw(st.integers(1, 255), "damage")
            path.write_bytes(content)
        assert found_in(folder) == {}
        if set(others) != set(numbers):  # equal contents have one name
            Segments(folder, WIDTH).add(
                as_keys([key_of(number) for number in others]), vectors_of(others)
            )
            assert found_in(folder) == {number: [number, -number] for number in others}
