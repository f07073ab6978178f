"""Logs as people have them: blanks, quotes, floats; what is lost is said, the rest is kept."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.training.csv_logs import ITEMS, csv_log, imported, rows
from training.cleaning import REPEATED, clean
from training.csv_records import MAX_RECORD_LINES
from training.importers import canonical, read_tables
from training.importers.csv_rows import records
from training.importers.tables import CHUNK, DataError, Tables
from training.rejections import MAX_EXAMPLE, MAX_LINES, Rejections


@pytest.mark.parametrize(
    "log",
    [
        "user_id, item_id, timestamp\nu1, 1, 10\nu1, 2, 20\n",
        "user_id,item_id ,timestamp\nu1,1,10\nu1,2 ,20\n",
        "\ufeff\n user_id,item_id,timestamp \nu1,1,10\n\nu1,2,20\n\n\n",
        'user_id, "item_id", timestamp\r\nu1, "1", 10\r\n   \r\nu1, "2", "20"\r\n',
    ],
    ids=["behind_commas", "at_an_end", "bom_and_blank_lines", "quoted"],
)
def test_blanks_around_names_and_ids_are_no_part_of_them(tmp_path: Path, log: str) -> None:
    tables = imported(csv_log(tmp_path, log, " item_id,title\n1 ,One\n 2,Two\n"))
    assert rows(tables) == [("u1", "1"), ("u1", "2")]
    assert tables.rejected.counts == {}


@pytest.mark.parametrize("bad", ['2,"5" nail"', '2,"5 nail', '2,"a"b,"c'])
def test_a_stray_quote_costs_its_own_row_alone(tmp_path: Path, bad: str) -> None:
    items = f'item_id,title\n1,"One\nand a half"\n{bad}\n3,6" board\n4,"Four, ""really"""\n5,Five\n'
    tables = imported(csv_log(tmp_path, "user_id,item_id,timestamp\nu,1,1\nu,3,2\nu,5,3\n", items))
    assert dict(tables.items.select("item_id", "title").rows()) == {
        "1": "One\nand a half",
        "3": '6" board',
        "4": 'Four, "really"',
        "5": "Five",
    }
    assert tables.rejected.counts == {"items.csv: quotes that do not match": 1}
    assert tables.rejected.examples["items.csv: quotes that do not match"] == f"line 4: {bad}"


def test_a_quote_that_never_ends_is_given_up_after_some_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a,"b\n' + "c,d\n" * (2 * MAX_RECORD_LINES), "utf-8")
    read = list(records(path))
    assert [fields for _, _, fields in read[:3]] == [None, ["c", "d"], ["c", "d"]]
    assert (len(read), read[-1][0]) == (2 * MAX_RECORD_LINES + 1, 2 * MAX_RECORD_LINES + 1)


def test_short_and_long_rows_are_counted_with_an_example(tmp_path: Path) -> None:
    items = "item_id,title,category\n1,One\n2,Two,c\n3,Three,c,more\n4,Four,\n"
    tables = imported(csv_log(tmp_path, "user_id,item_id,timestamp\nu,2,1\nu,4\nu,4,3\n", items))
    assert tables.items["item_id"].to_list() == ["2", "4"]
    assert rows(tables) == [("u", "2"), ("u", "4")]
    assert tables.rejected.counts == {
        "items.csv: 3 fields expected": 2,
        "interactions.csv: 3 fields expected": 1,
    }
    assert tables.rejected.examples["items.csv: 3 fields expected"] == "line 2: 1,One"


def test_a_field_may_be_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    long = "x" * 200_000
    items = f'item_id,title,description\n1,One,short\n2,Two,"{long}"\n3,bad\n'
    tables = imported(csv_log(tmp_path, "user_id,item_id,timestamp\nu1,2,1\n", items))
    assert tables.items["description"].to_list() == ["short", long]
    assert tables.rejected.counts == {"items.csv: 3 fields expected": 1}


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    csv_log(tmp_path, "user_id,item_id\nu,1\n")
    (tmp_path / "items.csv").write_bytes(b"item_id,title\n1,One\n2,Caf\xe9\n")
    with pytest.raises(
        DataError, match=r"items\.csv is not UTF-8 \(line 3, byte 6 of it\): convert it"
    ):
        imported(tmp_path)


def test_ids_of_whole_floats_are_read_as_numbers_on_both_sides(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp\n7.0,1.0,1\n7.0,2.0,2\n"
    tables = imported(csv_log(tmp_path / "log", log))
    assert rows(tables) == [("7", "1"), ("7", "2")]
    assert tables.rejected.total == 0
    assert tables.rejected.notes() == [
        "2 times: user_id that is written as a whole float, for example 7.0 is read as 7",
        "2 times: item_id that is written as a whole float, for example 1.0 is read as 1",
    ]
    catalog = imported(
        csv_log(tmp_path / "catalog", "user_id,item_id\nu,1\n", "item_id,title\n1.0,One\n2.0,Two\n")
    )
    assert (catalog.items["item_id"].to_list(), rows(catalog)) == (["1", "2"], [("u", "1")])


def test_ids_of_floats_among_others_are_read_as_the_catalogs_where_it_has_no_such(
    tmp_path: Path,
) -> None:
    log = "user_id,item_id,timestamp\nu,1.0,1\nu,2,2\nu,7.0,3\n"
    for catalog in ("item_id,title\n1,One\n2,Two\n", "item_id,title\n1.0,One\n2.0,Two\n"):
        tables = imported(csv_log(tmp_path, log, catalog))
        assert rows(tables) == [("u", "1"), ("u", "2")]
        assert tables.rejected.lines() == [
            "1 times: interaction with an item that the catalog lacks, for example 7.0"
        ]


def test_ids_that_only_look_like_floats_stay_as_they_are(tmp_path: Path) -> None:
    versions = "item_id,title\n1.0,One\n1.1,Two\n2.0,Three\n"
    tables = imported(csv_log(tmp_path, "user_id,item_id,timestamp\nu,1.0,1\nu,2.0,2\n", versions))
    assert rows(tables) == [("u", "1.0"), ("u", "2.0")]


@pytest.mark.parametrize("given", ["1e0", "1E+05", "1.23457E+11", "-2e-07"])
def test_ids_in_scientific_notation_are_kept_and_noted(tmp_path: Path, given: str) -> None:
    log = f"user_id,item_id,timestamp\n{given},{given},1\n{given},1,2\n"
    tables = imported(csv_log(tmp_path, log, f"{ITEMS}{given},Four\n"))
    assert rows(tables) == [(given, given), (given, "1")]
    assert tables.rejected.total == 0
    counts = {kind.partition(":")[0]: count for kind, count in tables.rejected.counts.items()}
    # Of the catalog and of the log.
    assert counts == {
        "item_id that looks like a number in scientific notation": (2),
        "user_id that looks like a number in scientific notation": 2,
    }
    assert all(f"for example {given}" in note for note in tables.rejected.notes())


@pytest.mark.parametrize("given", ["1e", "e5", "12e4", "1e1234", "1.e5", "1e5a"])
def test_ids_that_no_spreadsheet_writes_are_not_noted(tmp_path: Path, given: str) -> None:
    tables = imported(
        csv_log(tmp_path, f"user_id,item_id,timestamp\nu,{given},1\n", f"{ITEMS}{given},Four\n")
    )
    assert (rows(tables), tables.rejected.counts) == ([("u", given)], {})


def test_lines_that_end_with_carriage_returns_alone_are_named(tmp_path: Path) -> None:
    csv_log(tmp_path, "user_id,item_id\nu,1\n")
    (tmp_path / "items.csv").write_bytes(b"item_id,title\r1,One\r")
    with pytest.raises(DataError, match=r"items\.csv: its lines end with carriage returns alone"):
        imported(tmp_path)


def test_repeated_interactions_are_counted_and_dropped_unless_they_are_kept(tmp_path: Path) -> None:
    folder = csv_log(tmp_path, "user_id,item_id,timestamp\nu,1,1\nu,1,1\nu,1,2\nu,2,3\nu,1,1\n")
    tables = imported(folder)
    assert rows(tables) == [("u", "1"), ("u", "1"), ("u", "2")]
    assert (tables.rejected.total, tables.rejected.counts) == (0, {REPEATED: 2})
    kept = clean(read_tables("csv", folder), keep_duplicates=True)
    assert kept.interactions.height == 5


def test_a_repetition_across_chunks_is_one_too(tmp_path: Path) -> None:
    times = [*range(CHUNK), CHUNK - 1, CHUNK]
    pl.DataFrame({"item_id": [1], "title": ["One"]}).write_parquet(tmp_path / "items.parquet")
    log = pl.DataFrame(
        {"user_id": [7] * len(times), "item_id": [1] * len(times), "timestamp": times}
    )
    log.write_parquet(tmp_path / "interactions.parquet")
    tables = imported(tmp_path, "canonical")
    assert (tables.interactions.height, tables.rejected.counts) == (CHUNK + 1, {REPEATED: 1})


def test_entities_of_titles_are_decoded_once(tmp_path: Path) -> None:
    items = (
        "item_id,title\n1,Salt &amp; Pepper &#39;n&#x27; more\n2,AT&T; &nothing; &amp;lt; a &"
        " b\n3,Plain\n"
    )
    tables = imported(csv_log(tmp_path, "user_id,item_id\nu,1\n", items))
    assert tables.items["title"].to_list() == [
        "Salt & Pepper 'n' more",
        "AT&T; &nothing; &lt; a & b",
        "Plain",
    ]
    assert tables.rejected.total == 0


@pytest.mark.parametrize(
    ("items", "log", "says"),
    [
        (
            "item_id,title\n",
            "user_id,item_id,timestamp\n",
            "the catalog holds no items, .*; the log holds no interac",
        ),
        (
            "item_id,title\n",
            "user_id,item_id,timestamp\nu,1,1\n",
            "the catalog holds no items, at most a header$",
        ),
        (ITEMS, "user_id,item_id,timestamp\n", "the log holds no interactions"),
        (
            "item_id,title\n1,\n2,\n",
            "user_id,item_id,timestamp\nu,1,1\n",
            "none of the 2 items .*without a title",
        ),
        (
            ITEMS,
            "user_id,item_id,timestamp\n,1,1\n,2,1\n",
            "none of the 2 interactions .*without a user",
        ),
        (
            ITEMS,
            "user_id,item_id,timestamp\nu,1,\nu,2,\n",
            "interactions.csv: 3 fields expected|without a usable",
        ),
        (ITEMS, "user_id,item_id,timestamp\nu,1\nu,2\n", "the log holds no interactions"),
        ("", "", r"items\.csv: expected a header .*interactions\.csv: expected a header"),
    ],
)
def test_a_log_of_which_nothing_can_be_used_says_so(
    tmp_path: Path, items: str, log: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        canonical.write(clean(read_tables("csv", csv_log(tmp_path, log, items))), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_an_item_that_was_left_out_is_not_one_that_the_catalog_lacks(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp\nu,1,1\nu,2,2\nu,9,3\nu,1,4\n"
    tables = imported(csv_log(tmp_path, log, "item_id,title\n1,One\n2,\n"))
    assert tables.rejected.counts == {
        "item without a title": 1,
        "interaction with an item that was left out": 1,
        "interaction with an item that the catalog lacks": 1,
    }
    assert tables.rejected.total == 3


def test_counts_are_bounded_and_fit_for_a_terminal() -> None:
    rejected = Rejections()
    for number in range(MAX_LINES + 5):
        rejected.add(f"kind {number}", 1, "\x1b[31m\n" + "x" * 1000)
    lines = rejected.lines()
    assert (len(lines), lines[-1]) == (MAX_LINES + 1, "and 5 kinds more")
    assert lines[0].startswith("1 times: kind 0, for example \\x1b[31m\\nxxx")
    assert len(lines[0]) < MAX_EXAMPLE + 60


@pytest.mark.parametrize("bad", ["a\x01b", "a\u2028b", "a\x7f", "a\x85b", "x" * 257, "é" * 129])
def test_ids_that_the_service_refuses_are_rejected_before_a_run_trains_on_them(bad: str) -> None:
    items = pl.DataFrame({"item_id": ["1", bad, "é" * 128], "title": ["a", "b", "c"]})
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["1"], "timestamp": [1]})
    cleaned = clean(Tables(items, log))
    assert cleaned.items["item_id"].to_list() == ["1", "é" * 128]
    assert [
        one for one in cleaned.rejected.lines() if "control characters or over 256 bytes" in one
    ]
