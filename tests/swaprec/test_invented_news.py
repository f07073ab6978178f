from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from swaprec.invented_news import TITLE, headlines, tables, write
from training.cleaning import clean
from training.data import load_dataset
from training.importers.tables import Tables
from training.run_file import parse_config


def test_a_few_hundred_headlines_are_distinct_and_their_ids_plain() -> None:
    made = headlines()
    assert 300 <= len(made) <= 600
    assert len({one.title for one in made}) == len(made)
    assert [one.item_id for one in made[:2]] == ["n1", "n2"]
    assert all(one.title[0].isupper() for one in made)
    assert len({one.section for one in made}) >= 10


@pytest.fixture(scope="module")
def made() -> Tables:
    return tables()


def test_what_is_invented_is_named_as_such_everywhere(made: Tables) -> None:
    assert set(made.items["origin"]) == {"invented"}
    assert all(user.startswith("synthetic-") for user in made.interactions["user_id"].unique())
    assert "Invented" in TITLE
    assert "synthetic" in TITLE


def test_the_log_is_the_same_on_every_call_and_nothing_of_it_is_dropped(made: Tables) -> None:
    again = tables()
    assert made.items.equals(again.items)
    assert made.interactions.equals(again.interactions)
    cleaned = clean(again)
    assert cleaned.interactions.height == made.interactions.height
    assert cleaned.rejected.to_json() == {}


def test_readers_follow_stories_and_read_nothing_twice(made: Tables) -> None:
    log = made.interactions
    assert log.group_by("user_id", "item_id").len()["len"].max() == 1
    places = log["item_id"].str.slice(1).cast(int).to_list()
    following = sum(after == before + 1 for before, after in itertools.pairwise(places))
    assert following / len(places) > 0.25


def test_it_is_a_data_set_that_a_run_reads(tmp_path: Path) -> None:
    folder = write(tmp_path / "news")
    raw = {
        "stage": "adapt",
        "domain": "adressa",
        "output": str(tmp_path / "run"),
        "data": {"folder": str(folder)},
        "backbone": {"folder": str(tmp_path)},
        "adapter": {"user": {"kind": "houlsby"}},
    }
    dataset = load_dataset(parse_config(raw).data)
    assert len(dataset.item_ids) == len(headlines())
    assert len(dataset.user_ids) == 1500
