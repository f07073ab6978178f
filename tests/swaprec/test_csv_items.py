"""Items of CSV files: ids, quotes, blanks, delimiters; a bad row costs itself alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from swaprec.row_log import RowLog
from tests.swaprec.item_files import csv_file, items


def test_ids_of_a_csv_lose_their_point_only_where_all_are_whole(tmp_path: Path) -> None:
    log = RowLog()
    whole = csv_file(tmp_path, "item_id,title\n1.0,x\n2.0,y\n")
    assert [item["item_id"] for item in items(whole, log)] == ["1", "2"]
    assert len(log.notes) == 1
    versions = csv_file(tmp_path, "item_id,title\n1.0,x\n1.1,y\n")
    assert [item["item_id"] for item in items(versions)] == ["1.0", "1.1"]


def test_ids_in_scientific_notation_are_kept_and_named_once(tmp_path: Path) -> None:
    log = RowLog()
    path = csv_file(tmp_path, "item_id,title\n1.5E+05,x\n2E+05,y\n3,z\n")
    assert [item["item_id"] for item in items(path, log)] == ["1.5E+05", "2E+05", "3"]
    [line] = log.lines()
    assert "such as 1.5E+05" in line
    assert "export the column as text" in line


@pytest.mark.parametrize(
    ("bad", "kind", "left"),
    [
        ('2,"5" nail"\n', "a quote that is not closed, or text behind it", ["1", "3", "4"]),
        ('2,"never closed\n', "a quote that is not closed, or text behind it", ["1", "3", "4"]),
        ("2,Two,c,extra\n", "more fields than the header's 3", ["1", "3", "4"]),
        ("2,Two,c,\n", None, ["1", "2", "3", "4"]),
        ('2,"two\nlines, in quotes",c\n', None, ["1", "2", "3", "4"]),
        (f'2,"{"x" * 140_000}",c\n', None, ["1", "2", "3", "4"]),
        ("\n  \n", None, ["1", "3", "4"]),
    ],
    ids=[
        "quote inside",
        "open quote",
        "long",
        "trailing comma",
        "newline in quotes",
        "long field",
        "blank lines",
    ],
)
def test_a_bad_row_of_a_csv_costs_itself_and_not_the_rest(
    tmp_path: Path, bad: str, kind: str | None, left: list[str]
) -> None:
    log = RowLog()
    path = csv_file(tmp_path, f'item_id,title,category\n1,One,c\n{bad}3,"Three",c\n4,Four,"c"\n')
    assert [item["item_id"] for item in items(path, log)] == left
    assert list(log.rejected.counts) == ([] if kind is None else [kind])
    assert log.rejected_count == (kind is not None)


def test_a_short_row_is_reported_with_what_it_has(tmp_path: Path) -> None:
    log = RowLog()
    path = csv_file(tmp_path, "item_id,title,category\n1,One\n2,Two,c\n")
    assert items(path, log)[0] == {"item_id": "1", "title": "One"}
    assert log.lines() == [
        f"1 row has fewer fields than the header, such as: {path}, line 2 ends before category"
    ]


def test_blanks_around_names_and_ids_and_other_delimiters_are_read(tmp_path: Path) -> None:
    for content in (
        "item_id , title\n 1, One film\n",
        "item_id;title\n1;One film\n",
        "item_id|title\r\n1|One film\r\n",
    ):
        assert items(csv_file(tmp_path, content)) == [{"item_id": "1", "title": "One film"}]
    (tmp_path / "x.ndjson").write_text('{" item_id ": "1", "title ": "One film"}\n')
    assert items(tmp_path / "x.ndjson") == [{"item_id": "1", "title": "One film"}]


def test_attributes_of_a_csv_are_a_json_object(tmp_path: Path) -> None:
    log = RowLog()
    path = csv_file(tmp_path, 'item_id,attributes,year\na,"{""b"": 1}",1999\nc,no,\n')
    assert items(path, log) == [{"item_id": "a", "attributes": {"b": 1, "year": "1999"}}]
    assert list(log.rejected.counts) == ["attributes: expected a JSON object"]
