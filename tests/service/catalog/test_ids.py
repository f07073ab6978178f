"""Ids in flat arrays answer as a list and a dictionary would."""

from __future__ import annotations

import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from service.catalog.ids import Ids

COLLIDING = ("plumless", "buckeroo")
"""Two words of one hash."""
WORDS = st.text(st.characters(), max_size=12) | st.sampled_from(COLLIDING)
"""Any text, also halves of surrogate pairs, which UTF-8 alone cannot write."""


def test_the_two_words_have_one_hash() -> None:
    assert len({zlib.crc32(word.encode()) for word in COLLIDING}) == 1


@given(st.lists(WORDS, unique=True))
def test_every_row_gives_back_its_id(words: list[str]) -> None:
    ids = Ids.of(words)
    assert [ids[row] for row in range(len(ids))] == words


@given(st.lists(WORDS, unique=True), st.lists(WORDS))
def test_rows_are_found_as_in_a_dictionary(words: list[str], others: list[str]) -> None:
    known = {word: row for row, word in enumerate(words)}
    asked = [*others, *reversed(words)]
    assert Ids.of(words).rows(asked) == {word: known[word] for word in asked if word in known}


@given(st.lists(WORDS, unique=True))
def test_saved_ids_answer_as_before(words: list[str]) -> None:
    with TemporaryDirectory() as name:
        Ids.of(words).save(Path(name))
        opened = Ids.open(Path(name))
        assert [opened[row] for row in range(len(opened))] == words
        assert opened.rows(words) == {word: row for row, word in enumerate(words)}
        assert not opened.is_cut()
