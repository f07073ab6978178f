"""The feed in SQLite answers as a list of everything that was written would."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.state import EntryKind, FeedEntry
from service.state.feed import coalesced
from service.state.sqlite import feed as sqlite_feed
from service.state.sqlite.schema import prepare

KEPT = 8
WORDS = st.tuples(
    st.sampled_from(get_args(EntryKind)), st.sampled_from(["movies", "books", "news"])
)
HISTORIES = st.lists(WORDS, max_size=20)
Word = tuple[EntryKind, str]


@contextmanager
def feed_of(history: list[Word]) -> Iterator[sqlite3.Connection]:
    """A feed that keeps few entries, after everything of a history was written."""
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as db,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sqlite_feed, "KEPT_ENTRIES", KEPT)
        prepare(db, Path(":memory:"))
        write(db, history)
        yield db


def write(db: sqlite3.Connection, words: list[Word]) -> None:
    for kind, domain in words:
        sqlite_feed.append(db, kind, domain)


def read(db: sqlite3.Connection, after: int | str) -> list[FeedEntry] | None:
    return sqlite_feed.follow(db, str(after), 0, threading.Event())


def latest(words: list[Word]) -> list[Word]:
    """Every word once, in the order of its last time."""
    return list(reversed(dict.fromkeys(reversed(words))))


@given(HISTORIES, st.integers(0, 25))
def test_a_reader_learns_what_lies_behind_its_place_or_that_some_was_forgotten(
    history: list[Word], after: int
) -> None:
    with feed_of(history) as db:
        assert sqlite_feed.end(db) == str(len(history))
        entries = read(db, after)
    if len(history) - KEPT <= after <= len(history):
        assert entries is not None
        assert [(entry.kind, entry.domain) for entry in entries] == latest(history[after:])
        assert [int(entry.position) for entry in entries] == sorted(
            int(entry.position) for entry in entries
        )
        assert all(
            history[int(entry.position) - 1] == (entry.kind, entry.domain) for entry in entries
        )
    else:
        assert entries is None


@given(st.lists(st.lists(WORDS, max_size=KEPT), max_size=5))
def test_a_reader_who_follows_on_from_the_last_entry_misses_nothing_and_sees_nothing_twice(
    steps: list[list[Word]],
) -> None:
    with feed_of([]) as db:
        position = sqlite_feed.end(db)
        for words in steps:
            write(db, words)
            entries = read(db, position)
            assert entries is not None
            assert [(entry.kind, entry.domain) for entry in entries] == latest(words)
            if entries:
                position = entries[-1].position
            assert position == sqlite_feed.end(db)
            assert read(db, position) == []


@given(st.lists(WORDS, max_size=30))
def test_the_feed_never_grows_beyond_what_is_kept(history: list[Word]) -> None:
    with feed_of(history) as db:
        rows = db.execute("SELECT place, kind, domain FROM feed ORDER BY place").fetchall()
    numbered = [(place, *word) for place, word in enumerate(history, 1)]
    assert rows == numbered[-KEPT:]


@given(st.lists(st.builds(lambda word, at: (*word, at), WORDS, st.floats(0, 9))))
def test_of_equal_entries_the_last_position_and_the_first_time_are_kept(
    written: list[tuple[EntryKind, str, float]],
) -> None:
    entries = [FeedEntry(str(place), *word) for place, word in enumerate(written)]
    found = coalesced(entries)
    assert [(entry.kind, entry.domain) for entry in found] == latest(
        [(kind, domain) for kind, domain, _ in written]
    )
    for entry in found:
        equal = [one for one in entries if (one.kind, one.domain) == (entry.kind, entry.domain)]
        assert (entry.position, entry.at) == (equal[-1].position, equal[0].at)
