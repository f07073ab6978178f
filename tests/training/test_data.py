"""The canonical form of a log, and the data set that a run reads from it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from training.cleaning import REPEATED
from training.config import DataConfig, WhereConfig
from training.data import Dataset, item_texts, load_dataset, repeated_targets
from training.importers import canonical, read_tables
from training.importers.tables import DataError, Tables

LOG = [("u1", name, time) for time, name in enumerate("abcde")]
LOG += [("u2", name, 9 - time) for time, name in enumerate("edcba")]


def write(
    folder: Path, log: list[tuple[str, str, int]], items: dict[str, list[str | None]] | None = None
) -> Path:
    columns = items or {"item_id": list("abcdef"), "title": [f"film {name}" for name in "abcdef"]}
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")
    canonical.write(Tables(pl.DataFrame(columns), frame), folder)
    return folder


def load(folder: Path, **config: object) -> Dataset:
    return load_dataset(DataConfig(folder=folder, **config))


def test_histories_are_in_order_of_time_and_the_whole_catalog_takes_part(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, LOG))
    assert dataset.item_ids == list("abcdef")
    assert [row.tolist() for row in dataset.sequences] == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, [("u1", name, 0) for name in "ecabd"]))
    assert dataset.sequences[0].tolist() == [4, 2, 0, 1, 3]


def test_the_last_is_the_test_target_and_the_one_before_validations(tmp_path: Path) -> None:
    split = load(write(tmp_path, [*LOG, ("u1", "a", 99)])).split()
    assert (split.train[0].tolist(), split.valid[0], split.test[0]) == ([0, 1, 2, 3], 4, 0)
    assert split.history("test")[0].tolist() == [0, 1, 2, 3, 4]
    assert split.repeated("test").tolist() == [True, False]


def test_what_cannot_be_used_is_counted_by_kind_with_an_example(tmp_path: Path) -> None:
    items = {"item_id": [*"abcde", "a", "x"], "title": [*"abcde", "again", " "]}
    dataset = load(write(tmp_path, [*LOG, ("u1", "zz", 50), ("u3", "a", 1)], items))
    reported = " ".join([*dataset.rejected.lines(), *dataset.rejected.notes()])
    for part in (
        "1 times: item without a title, for example x",
        "1 times: item id that occurred before, for example a",
        "1 times: interaction with an item that the catalog lacks, for example zz",
        "1 times: user with fewer than 5 interactions, for example u3",
    ):
        assert part in reported


def test_a_log_of_another_catalog_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="6 of 10 interactions name items that the catalog lacks"):
        load(write(tmp_path, LOG, {"item_id": ["a", "b"], "title": ["x", "y"]}))


def test_a_filter_chooses_items_by_the_words_of_a_column(tmp_path: Path) -> None:
    genres = ["Drama", "Comedy|Drama", "Comedy", "Action", "Comedy", None]
    folder = write(
        tmp_path, LOG * 3, {"item_id": list("abcdef"), "title": list("abcdef"), "genres": genres}
    )

    def ids(column: str = "genres", **words: list[str]) -> list[str]:
        where = WhereConfig(column=column, **words)
        return load(folder, where=where, min_interactions=3, keep_duplicates=True).item_ids

    assert ids(any=["Drama"]) == ["a", "b"]
    assert ids(any=["Comedy"], none=["Drama"]) == ["c", "e"]
    assert ids(none=["Drama", "Comedy"]) == ["d", "f"]
    with pytest.raises(DataError, match="'genre'; the items have item_id, title, genres"):
        ids(column="genre")


def test_texts_are_made_of_columns(tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": ["a"], "title": ["Up"], "year": [2009], "genres": [None]})
    assert item_texts(items, "{title} ({year}) {genres}") == ["Up (2009) "]
    with pytest.raises(
        DataError, match="names director; the items have item_id, title, year, genres"
    ):
        item_texts(items, "{title} {director}")
    assert tmp_path.exists()


def test_the_digest_depends_on_texts_and_histories(tmp_path: Path) -> None:
    first = load(write(tmp_path / "a", LOG)).digest
    assert first == load(write(tmp_path / "b", LOG)).digest
    assert first != load(write(tmp_path / "c", LOG), text="{title}!").digest
    assert first != load(write(tmp_path / "d", [*LOG, ("u1", "f", 60)])).digest


def test_repetitions_far_apart_are_dropped_and_targets_in_histories_are_warned_of(
    tmp_path: Path,
) -> None:
    log = [(user, name, time) for user in ("u1", "u2") for time, name in enumerate("aabbccdd")]
    folder = write(tmp_path, [*log, *log])
    dataset = load(folder)
    assert dataset.rejected.counts[REPEATED] == len(log)
    assert repeated_targets(dataset).startswith(
        "2 of 2 users' last items stand in their histories already"
    )
    assert load(folder, keep_duplicates=True).sequences[0].tolist() == [
        0,
        0,
        0,
        0,
        1,
        1,
        1,
        1,
        2,
        2,
        2,
        2,
        3,
        3,
        3,
        3,
    ]
    assert repeated_targets(load(write(tmp_path / "b", LOG))) == ""


def test_a_log_of_which_nothing_can_be_used_carries_its_counts(tmp_path: Path) -> None:
    folder = write(tmp_path, LOG, {"item_id": ["a", ""], "title": ["", "x"]})
    with pytest.raises(DataError, match=f"^{tmp_path}: none of the 2 items can be used") as caught:
        load(folder)
    assert caught.value.rejected is not None
    assert caught.value.rejected.counts == {"item without an id": 1, "item without a title": 1}


def test_no_user_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no user has 6 interactions"):
        load(write(tmp_path, LOG), min_interactions=6)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("items.parquet", None, "is not there"),
        ("items.parquet", b"no parquet", "is no Parquet file"),
    ],
)
def test_a_broken_folder_is_named(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = write(tmp_path, LOG) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        load(tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, LOG)
    pl.DataFrame({"item_id": ["a"], "name": ["x"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="lacks title; it has item_id, name"):
        load(tmp_path)


def test_the_papers_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "adressa_users.tsv").write_text("U1\tN1 N2 N3\nU2\tN3\nbroken\n", "utf-8")
    (tmp_path / "adressa_news.tsv").write_text("N1\tEn tittel\nN2\tTo\nN3\tTre\nN4\t\n", "utf-8")
    tables = read_tables("adapter4rec", tmp_path)
    assert tables.interactions.rows() == [
        ("U1", "N1", 0),
        ("U1", "N2", 1),
        ("U1", "N3", 2),
        ("U2", "N3", 0),
    ]
    assert tables.items["title"].to_list() == ["En tittel", "To", "Tre", ""]
    assert tables.rejected.counts == {"adressa_users.tsv: no two fields": 1}
    dataset = load(tmp_path, format="adapter4rec", min_interactions=3)
    assert dataset.item_ids == ["N1", "N2", "N3"]
    assert dataset.rejected.counts["item without a title"] == 1


def test_columns_of_lists_serve_texts_and_filters(tmp_path: Path) -> None:
    write(tmp_path, LOG)
    genres = [["Drama"], ["Comedy", "Drama"], ["Comedy"], [], None, ["Action"]]
    frame = pl.DataFrame({"item_id": list("abcdef"), "title": list("abcdef"), "genres": genres})
    frame.write_parquet(tmp_path / "items.parquet")
    dataset = load(
        tmp_path,
        text="{title} {genres}",
        min_interactions=3,
        where=WhereConfig(column="genres", none=["Drama"]),
    )
    assert dataset.texts == ["c Comedy", "d ", "e ", "f Action"]


def test_ids_that_are_no_texts_are_named(tmp_path: Path) -> None:
    write(tmp_path, LOG)
    pl.DataFrame({"item_id": [["a"]], "title": ["x"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="ids and titles must be texts or numbers"):
        load(tmp_path)
