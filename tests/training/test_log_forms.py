"""Logs in the forms that people export: RecBole, CSV, the paper's lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.cleaning import clean
from training.importers import canonical, read_tables
from training.importers.tables import DataError


def test_recbole_files_are_read_by_their_typed_header(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t3\t881250949\n1\t8\t5\tlater\n1\t9\n",
        "utf-8",
    )
    (tmp_path / "x.item").write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\n7\tUp\tComedy\n", "utf-8"
    )
    tables = read_tables("recbole", tmp_path)
    assert tables.interactions.rows() == [("1", "7", "881250949"), ("1", "8", "later")]
    assert tables.items.rows() == [("7", "Up", "Comedy")]
    tables = clean(tables)
    assert tables.interactions.rows() == [("1", "7", 881250949.0)]
    assert tables.rejected.counts == {
        "x.inter: 4 fields expected": 1,
        "interaction without a usable timestamp": 1,
    }


def test_csv_files_keep_quoted_commas_and_newlines(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        'item_id,name,category\n07,"Up, and\naway",film\n8,Jaws\n', "utf-8"
    )
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\nu,07,2026-11-23T10:00:00\n", "utf-8"
    )
    tables = read_tables("csv", tmp_path)
    assert tables.items.rows() == [("07", "Up, and\naway", "film")]
    assert tables.items.columns == ["item_id", "title", "category"]
    assert tables.rejected.counts == {"items.csv: 3 fields expected": 1}
    assert clean(tables).interactions["item_id"].to_list() == ["07"]


@pytest.mark.parametrize(
    ("items", "log", "says"),
    [
        (
            "id,title\n",
            "user,item_id\n",
            "items lacks item_id; it has id, title; the file of interactions lacks user_id",
        ),
        (
            "",
            "user_id,item_id\n",
            "items.csv: expected a header of different names, got an empty file",
        ),
        ("item_id,item_id\n", "", "got item_id, item_id"),
        (
            'item_id,"title\n1,a\n',
            "user_id,item_id\n",
            'items.csv: expected a header .* got item_id,"title',
        ),
    ],
)
def test_csv_files_that_cannot_be_read_say_where_and_why(
    tmp_path: Path, items: str, log: str, says: str
) -> None:
    (tmp_path / "items.csv").write_text(items, "utf-8")
    (tmp_path / "interactions.csv").write_text(log, "utf-8")
    with pytest.raises(DataError, match=says):
        read_tables("csv", tmp_path)


def test_a_user_with_two_lines_keeps_the_first(tmp_path: Path) -> None:
    (tmp_path / "users.tsv").write_text("U1\tN1 N2\nU1\tN2 N1\n", "utf-8")
    (tmp_path / "items.tsv").write_text("N1\tEn\nN2\tTo\n", "utf-8")
    tables = read_tables("adapter4rec", tmp_path)
    assert tables.interactions["item_id"].to_list() == ["N1", "N2"]
    assert tables.rejected.counts == {"user with a second line": 1}


def test_only_a_newline_ends_a_line_and_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_bytes(b"\xef\xbb\xbfuser_id:token\titem_id:token\r\n1\t7\r\n")
    (tmp_path / "x.item").write_text(
        "item_id:token\ttitle:token_seq\n7\tUp\u2028and\x0caway\n", "utf-8"
    )
    tables = read_tables("recbole", tmp_path)
    assert tables.items["title"].to_list() == ["Up\u2028and\x0caway"]
    assert tables.interactions.select("user_id", "item_id").rows() == [("1", "7")]
    (tmp_path / "x.item").write_bytes("item_id:token\ttitle:token_seq\n7\tÉté\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.item is not UTF-8"):
        read_tables("recbole", tmp_path)


def test_an_import_can_be_written_in_the_canonical_form(tmp_path: Path) -> None:
    (tmp_path / "users.tsv").write_text("U1\tN1 N2 N9\n", "utf-8")
    (tmp_path / "items.tsv").write_text("N1\tEn\nN2\tTo\n", "utf-8")
    tables = clean(read_tables("adapter4rec", tmp_path))
    canonical.write(tables, tmp_path / "out")
    assert tables.rejected.counts == {"interaction with an item that the catalog lacks": 1}
    assert read_tables("canonical", tmp_path / "out").interactions.height == 2


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("excel", "expected one of canonical"),
        (
            "csv",
            (
                "items.csv is not there: expected one file of items, .*; .*expected one file of"
                " interactions"
            ),
        ),
        ("recbole", "expected one item file"),
    ],
)
def test_an_unknown_form_or_an_empty_folder_is_named(tmp_path: Path, form: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_tables(form, tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        read_tables("recbole", tmp_path / "none")
