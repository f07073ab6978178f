"""Files of items in every usual form:
each column goes to its field, and what cannot be read is counted and named.
"""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from swaprec.errors import USAGE, Stop
from swaprec.row_log import RowLog
from swaprec.rows import hints, parse_columns
from tests.swaprec.item_files import csv_file, items

ROW = {
    "item_id": "a",
    "title": "Storm",
    "text": "the storm",
    "category": "news",
    "timestamp": "2020",
    "popularity": 3.5,
    "available": False,
    "year": 1999,
}


def written(folder: Path, form: str) -> Path:
    """Write the row in a form."""
    path = folder / f"x{form}"
    text = {
        ".ndjson": json.dumps(ROW) + "\n",
        ".json": json.dumps([ROW]),
        ".csv": ",".join(ROW) + "\n" + ",".join(map(str, ROW.values())) + "\n",
        ".tsv": "\t".join(ROW) + "\n" + "\t".join(map(str, ROW.values())) + "\n",
    }
    if form == ".parquet":
        pl.DataFrame([ROW]).write_parquet(path)
    elif form.endswith(".gz"):
        path.write_bytes(gzip.compress(text[form.removesuffix(".gz")].encode("utf-8-sig")))
    else:
        path.write_text(text[form], "utf-8-sig")
    return path


@pytest.mark.parametrize(
    "form", [".ndjson", ".json", ".csv", ".tsv", ".parquet", ".ndjson.gz", ".json.gz", ".csv.gz"]
)
def test_every_field_that_the_api_knows_goes_to_its_field_from_every_form(
    tmp_path: Path, form: str
) -> None:
    [item] = items(written(tmp_path, form))
    assert str(item.pop("attributes")["year"]) == "1999"
    assert item == {name: value for name, value in ROW.items() if name != "year"}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("true", True),
        ("NO", False),
        ("1", True),
        ("0", False),
        (" yes ", True),
        ("1.0", True),
        ("0.00", False),
    ],
)
def test_availability_is_read_from_text(tmp_path: Path, given: str, read: bool) -> None:
    [item] = items(csv_file(tmp_path, f"item_id,title,available\na,x,{given}\n"))
    assert item["available"] is read


@pytest.mark.parametrize(
    ("given", "read"), [("1", True), ("0", False), ("1.0", True), ("0.0", False), ("2", 2)]
)
def test_availability_is_read_from_numbers_of_json(
    tmp_path: Path, given: str, read: object
) -> None:
    path = csv_file(tmp_path, f'{{"item_id": "a", "available": {given}}}\n', "x.ndjson")
    [item] = items(path)
    assert (item["available"], type(item["available"])) == (read, type(read))


def test_another_text_for_availability_is_a_rejected_row_that_says_so(tmp_path: Path) -> None:
    log = RowLog()
    found = items(csv_file(tmp_path, "item_id,title,available\na,x,perhaps\nb,y,\n"), log)
    assert found == [{"item_id": "b", "title": "y", "available": None}]
    [line] = log.lines()
    assert "not loaded: 1 row: available: expected true, false, 1, 0, yes or no" in line
    assert "line 2 has 'perhaps'" in line


def test_a_column_that_is_missing_is_not_named_and_an_empty_cell_is_null(tmp_path: Path) -> None:
    assert items(csv_file(tmp_path, "item_id,title,popularity\na,x,\n")) == [
        {"item_id": "a", "title": "x", "popularity": None}
    ]


@pytest.mark.parametrize("written", ["NaN", "null", "NULL", "None", "NA", "n/a", "NaT", " "])
def test_a_text_that_means_an_empty_cell_is_null_in_fields_that_hold_no_text(
    tmp_path: Path, written: str
) -> None:
    [item] = items(
        csv_file(
            tmp_path, f"item_id,title,popularity,available\na,{written}x,{written},{written}\n"
        )
    )
    assert (item["popularity"], item["available"]) == (None, None)
    assert item["title"] == f"{written}x"


def test_a_data_frame_of_any_types_is_read(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "item_id": [1.0, 2.0],
            "title": [1984, 2001],
            "timestamp": [datetime(2020, 1, 2, 3, 4), None],  # noqa: DTZ001 - as many files have it
            "popularity": [float("nan"), 2.0],
            "available": [1, 0],
            "price": [Decimal("9.99"), None],
            "released": [date(2020, 1, 2), None],
            "length": [timedelta(minutes=2), None],
            "raw": [b"abc", b"d"],
            "tags": [["a"], []],
            "more": [{"x": 1.0}, {"x": float("nan")}],
        },
        schema_overrides={"title": pl.Int64},
    )
    frame.write_parquet(tmp_path / "x.parquet")
    log = RowLog()
    first, second = items(tmp_path / "x.parquet", log)
    assert first == {
        "item_id": "1",
        "title": "1984",
        "timestamp": "2020-01-02T03:04:00",
        "popularity": None,
        "available": True,
        "attributes": {
            "price": 9.99,
            "released": "2020-01-02",
            "length": 120.0,
            "raw": "abc",
            "tags": ["a"],
            "more": {"x": 1.0},
        },
    }
    assert (second["timestamp"], second["attributes"]["price"], second["attributes"]["more"]) == (
        None,
        None,
        {"x": None},
    )
    assert log.lines() == [
        "ids are numbers with a point, such as 1.0: they are read without it, as 1"
    ]


def test_entities_of_html_are_decoded_in_texts_and_not_in_ids(tmp_path: Path) -> None:
    row = {
        "item_id": "a&amp;b",
        "title": "R&amp;B &#39;n&#x27; AT&T",
        "text": ["&lt;b&gt;", "x"],
        "url": "?a&amp;b",
    }
    (tmp_path / "x.ndjson").write_text(json.dumps(row))
    [item] = items(tmp_path / "x.ndjson")
    assert item == {
        "item_id": "a&amp;b",
        "title": "R&B 'n' AT&T",
        "text": ["<b>", "x"],
        "attributes": {"url": "?a&amp;b"},
    }


def test_text_in_another_encoding_is_named_by_line_and_byte_and_read_when_it_is_said(
    tmp_path: Path,
) -> None:
    for name, content in (
        ("x.csv", "item_id,title\n1,x\n2,Café\n"),
        ("x.ndjson", '{"item_id": "2"}\n{"title": "é"}\n'),
    ):
        path = tmp_path / name
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(Stop) as error:
            items(path)
        line, byte = (3, 23) if name == "x.csv" else (2, 28)
        assert f"line {line}, byte {byte}: 0xe9 is not UTF-8" in str(error.value)
        assert path.read_bytes()[byte] == 0xE9
        assert "--encoding" in error.value.hint
        assert len(items(path, encoding="latin-1")) == 2
    (tmp_path / "x.csv").write_text("item_id,title\n1,Café\n", "utf-16")
    assert items(tmp_path / "x.csv", encoding="utf-16") == [{"item_id": "1", "title": "Café"}]
    with pytest.raises(Stop, match="is no encoding"):
        items(tmp_path / "x.csv", encoding="klingon")


def test_lines_that_are_no_objects_are_counted_and_the_others_read(tmp_path: Path) -> None:
    log = RowLog()
    (tmp_path / "x.ndjson").write_text(
        '{"item_id": "a"}\n{"item_id": \n[1]\n{"item_id": "b", "p": NaN}\n'
    )
    assert items(tmp_path / "x.ndjson", log) == [
        {"item_id": "a"},
        {"item_id": "b", "attributes": {"p": None}},
    ]
    assert list(log.rejected.counts.values()) == [1, 1]
    assert "line 2 is not JSON" in log.lines()[0]
    assert "line 3 is no JSON object" in log.lines()[1]


def test_a_folder_of_parts_is_one_file_and_its_marks_are_not_read(tmp_path: Path) -> None:
    for form in (".parquet", ".csv", ".ndjson", ".json"):
        folder = tmp_path / f"items{form}"
        folder.mkdir()
        for number in range(2):
            part = folder / f"part-{number:05}-abc.snappy{form}"
            row = {"item_id": str(number), "title": "x"}
            if form == ".parquet":
                pl.DataFrame([row]).write_parquet(part)
            elif form == ".csv":
                part.write_text(f"item_id,title\n{number},x\n")
            else:
                part.write_text(json.dumps(row) + "\n")
        (folder / "_SUCCESS").touch()
        (folder / ".part-00000.crc").write_bytes(b"\xff")
        assert [item["item_id"] for item in items(folder)] == ["0", "1"], form


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", "", "has nothing in it"),
        ("x.csv", "item_id,title\n", "has a header and no rows in it"),
        ("x.ndjson", "\n\n", "has nothing in it"),
        ("x.json", "[]", "has nothing in it"),
        ("x.json", '{"item_id": "a"}\n', "is no JSON array"),
        ("x.parquet", "PAR1", "is no Parquet file that can be read"),
        ("x.csv.gz", "\x1f\x7f", "header names"),
        ("x.csv", "item_id,title\r1,One\r2,Two\r", "its lines end with carriage returns alone"),
        ("x.csv", "item_id,title\r1,One", "its lines end with carriage returns alone"),
        ("x.csv", "item_id,title,title\n1,a,b\n", "the header names title twice"),
        ("x.csv", "id,title\n1,a\n", "has no column item_id; it has id, title"),
    ],
)
def test_a_file_that_holds_no_items_is_an_error_that_says_so(
    tmp_path: Path, name: str, content: str, says: str
) -> None:
    path = csv_file(tmp_path, content, name)
    if name == "x.csv.gz":
        path.write_bytes(gzip.compress(b",,\n1,2,3\n"))
        says = "the header names no column"
    with pytest.raises(Stop) as error:
        items(path)
    assert says in str(error.value)
    assert error.value.code == USAGE


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.ndjson.gz").write_bytes(gzip.compress(b'{"item_id": "a"}\n' * 5000)[:-20])
    with pytest.raises(Stop, match="damaged or cut off"):
        items(tmp_path / "x.ndjson.gz")


def test_another_column_is_read_as_a_field_and_the_likely_one_is_named(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "movieId,Title,Is_Available\n1,One,no\n")
    with pytest.raises(Stop) as error:
        items(path)
    assert "--column item_id=movieId" in error.value.hint
    log = RowLog()
    assert (
        items(path, log, columns=parse_columns(["item_id=movieId"]))[0]["attributes"]["Title"]
        == "One"
    )
    assert [hint.rpartition(": ")[2] for hint in hints(log)] == [
        "--column title=Title reads it as the item's title",
        "--column available=Is_Available reads it as the item's available",
    ]
    columns = parse_columns(["item_id=movieId", "title=Title", "available=Is_Available"])
    assert items(path, columns=columns) == [{"item_id": "1", "title": "One", "available": False}]
    with pytest.raises(Stop) as error:
        items(path, columns={"item_id": "movieId", "title": "Titel"})
    assert ("no column Titel" in str(error.value), "--column title=Title" in error.value.hint) == (
        True,
        True,
    )
    with pytest.raises(Stop, match="FIELD=COLUMN"):
        parse_columns(["title"])
