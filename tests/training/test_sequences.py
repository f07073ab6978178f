"""RecBole's sequential form: every item of a history counts once,
however often the rows repeat it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from training.cleaning import clean
from training.importers import read_tables
from training.importers.sequences import UserHistory
from training.importers.tables import DataError

HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


def write(folder: Path, **splits: str) -> Path:
    (folder / "x.item").write_text(
        "item_id:token\ttitle:token_seq\n" + "".join(f"{n}\tT{n}\n" for n in "abcdef")
    )
    for split, rows in splits.items():
        name = f"x.{split}.inter" if split != "all" else "x.inter"
        (folder / name).write_text(rows, "utf-8")
    return folder


def histories(folder: Path) -> dict[str, str]:
    tables = clean(read_tables("recbole", folder))
    found: dict[str, str] = {}
    for user, item, _ in tables.interactions.sort("timestamp", maintain_order=True).iter_rows():
        found[user] = found.get(user, "") + item
    return found


def test_the_three_files_of_a_benchmark_are_one_log_in_which_each_event_counts_once(
    tmp_path: Path,
) -> None:
    train = f"{HEADER}1\ta\tb\n1\ta b\tc\n2\tc\ta\n"
    valid = f"{HEADER}1\ta b c\td\n2\tc a\tb\n"
    test = f"{HEADER}1\ta b c d\te\n2\tc a b\td\n"
    folder = write(tmp_path, train=train, valid=valid, test=test)
    assert histories(folder) == {"1": "abcde", "2": "cabd"}
    assert read_tables("recbole", folder).rejected.counts == {}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (["a b", "a b c", "a b c d"], "abcd"),
        (["a b c d", "a b c", "a b"], "abcd"),
        (["a b c", "b c d", "c d e"], "abcde"),
        (["a a", "a a a"], "aaa"),
        (["a b a", "a b a b"], "abab"),
        (["a b", "c d"], "abcd"),
    ],
    ids=["growing", "shrinking", "window", "same_item", "cycle", "sessions"],
)
def test_rows_of_a_user_are_laid_over_each_other(rows: list[str], found: str) -> None:
    history = UserHistory()
    fits = [history.extend(row.split()) for row in rows]
    assert "".join(history.items) == found
    assert all(fits) == (rows != ["a b", "c d"])


def test_one_file_of_sequences_of_sessions_is_read(tmp_path: Path) -> None:
    rows = (
        "session_id:token\titem_id:token\titem_id_list:token_seq\n7\tb\ta\n7\te\tc"
        " d\n8\ta\t\n9\t\t\nbad\n"
    )
    folder = write(tmp_path, all=rows)
    assert histories(folder) == {"7": "abcde", "8": "a"}
    tables = read_tables("recbole", folder)
    list(tables.chunks())
    assert tables.rejected.to_json().keys() == {
        "x.inter: 3 fields expected",
        "sequence without items",
    }
    assert (
        tables.rejected.notes_to_json()["sequence that continues no earlier one of its user"][
            "example"
        ]
        == "7"
    )


def test_a_column_of_items_that_is_a_sequence_itself_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path, all="user_id:token\titem_id:token_seq\n1\ta b c\n")
    assert histories(folder) == {"1": "abc"}


def test_a_list_of_items_of_another_name_is_the_history(tmp_path: Path) -> None:
    rows = "user_id:token\titem_seq:token_seq\titem_id:token\ttimestamp:float\n1\ta b\tc\t5\n"
    assert histories(write(tmp_path, all=rows)) == {"1": "abc"}


@pytest.mark.parametrize("name", ["item_genres", "item_tags", "item_category_list"])
def test_a_list_that_is_a_feature_of_the_item_is_no_history(tmp_path: Path, name: str) -> None:
    header = f"user_id:token\titem_id:token\t{name}:token_seq\ttimestamp:float\n"
    rows = "".join(f"1\t{item}\tcomedy drama\t{time}\n" for time, item in enumerate("abc", 5))
    folder = write(tmp_path, all=header + rows)
    assert histories(folder) == {"1": "abc"}
    assert read_tables("recbole", folder).interactions["timestamp"].to_list() == [*"567"]


def test_a_list_that_may_be_the_history_is_noted_and_read_where_it_is_mapped(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path, all="user_id:token\tseen:token_seq\titem_id:token\n1\ta b\tc\n")
    [note] = read_tables("recbole", folder).rejected.notes_to_json().values()
    assert note["example"] == "--column item_id_list=seen reads seen as the items before"
    tables = clean(read_tables("recbole", folder, {"item_id_list": "seen"}))
    assert tables.interactions["item_id"].to_list() == ["a", "b", "c"]


def test_splits_of_plain_interactions_follow_each_other(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\n"
    folder = write(
        tmp_path, train=f"{header}1\ta\n1\tb\n", test=f"{header}1\td\n", valid=f"{header}1\tc\n"
    )
    assert histories(folder) == {"1": "abcd"}


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    folder = write(tmp_path, all="uid:token\titem_id_list:token_seq\titem_id:token\n1\ta\tb\n")
    with pytest.raises(DataError, match=r"x\.inter lacks user_id; .*--column user_id=uid"):
        read_tables("recbole", folder)
    tables = clean(read_tables("recbole", folder, {"user_id": "uid"}))
    assert tables.interactions["item_id"].to_list() == ["a", "b"]


def test_files_that_are_no_splits_of_one_log_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, train=HEADER, other=HEADER)
    with pytest.raises(
        DataError, match=r"or X\.train\.inter, .* found x\.other\.inter, x\.train\.inter"
    ):
        read_tables("recbole", folder)
