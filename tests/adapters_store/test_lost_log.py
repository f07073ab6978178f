from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters_store.errors import StoreDamaged, VersionNotFound
from adapters_store.lost_log import lost_logs
from adapters_store.store import Store
from tests.adapters_store.test_store import accept, make
from tests.damage import harm


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("damage", ["deleted", "emptied", "zeroed", "cut", "garbage"])
def test_a_damaged_activation_log_forgets_nothing_that_was_acknowledged(
    store: Store, tmp_path: Path, damage: str
) -> None:
    for value in (1.0, 2.0):
        store.add("movies", make(tmp_path, value), accept)
        store.record_activation("movies", int(value), "activate")
    harm(store.folder / "movies" / "activations.jsonl", damage)
    again = Store(store.folder)
    assert (again.live("movies"), again.current("movies").number) == (2, 2)
    assert again.record_activation("movies", 1, "activate").number == 3
    assert [one.version for one in again.activations("movies")][-2:] == [2, 1]
    assert again.rollback("movies").activation.version == 2


@pytest.mark.parametrize("damage", ["deleted", "zeroed", "garbage"])
def test_an_activation_log_that_is_lost_with_its_copy_is_an_error_until_a_version_is_activated(
    store: Store, tmp_path: Path, damage: str
) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    store.record_activation("movies", 1, "activate")
    for name in ("activations.jsonl", "current.json"):
        harm(store.folder / "movies" / name, damage)
    for ask in (
        store.current,
        store.live,
        store.rollback,
        lambda domain: store.record_canary(domain, 1, 5, "canary"),
    ):
        with pytest.raises(StoreDamaged, match="Activate a version"):
            ask("movies")
    store.record_activation("movies", 1, "activate")
    assert Store(store.folder).live("movies") == 1


def test_an_error_that_lists_the_last_versions_says_how_many_there_are(
    store: Store, tmp_path: Path
) -> None:
    for value in range(1, 23):
        store.add("movies", make(tmp_path, float(value)), accept)
        if value == 20:
            with pytest.raises(VersionNotFound, match=r"it has 1, .*, 20$"):
                store.record_activation("movies", 99, "activate")
    store.record_activation("movies", 1, "activate")
    for name in ("activations.jsonl", "current.json"):
        harm(store.folder / "movies" / name, "deleted")
    with pytest.raises(StoreDamaged, match=r"\(it has 3, 4, .*, 22, the last 20 of 22\) or none"):
        store.current("movies")


def test_a_domain_whose_whole_folder_is_missing_is_missed_and_one_that_was_removed_is_not(
    store: Store, tmp_path: Path
) -> None:
    for name in ("movies", "news"):
        store.add(name, make(tmp_path, 1.0, domain=name), accept)
        store.record_activation(name, 1, "activate")
    store.remove_domain("news")
    shutil.rmtree(store.folder / "movies")
    again = Store(store.folder)
    with pytest.raises(StoreDamaged, match="it has none"):
        again.current("movies")
    assert again.live("news") is None
    assert lost_logs(store.folder) == ["movies"]
    again.record_activation("movies", None, "activate")
    assert again.live("movies") is None
    assert lost_logs(store.folder) == []


def test_a_damaged_copy_of_the_current_activation_costs_nothing(
    store: Store, tmp_path: Path
) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    store.record_activation("movies", 1, "activate")
    harm(store.folder / "movies" / "current.json", "zeroed")
    assert store.live("movies") == 1


def test_a_domain_whose_versions_were_never_activated_answers_from_none(
    store: Store, tmp_path: Path
) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    assert store.live("movies") is None


def test_a_store_of_an_earlier_version_gets_its_copies_when_it_is_opened(
    store: Store, tmp_path: Path
) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    store.record_activation("movies", 1, "activate")
    store.add("books", make(tmp_path, 2.0, "books"), accept)
    for name in ("movies", "books"):
        (store.folder / name / "current.json").unlink()
    shutil.rmtree(store.folder / ".copied")
    again = Store(store.folder)
    assert (again.live("movies"), again.live("books")) == (1, None)
    (store.folder / "movies" / "activations.jsonl").unlink()
    assert again.live("movies") == 1
