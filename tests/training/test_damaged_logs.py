"""Logs as people have them: blanks,
stray quotes, floats, strange times; what is lost is said, the rest is kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from training.cleaning import REPEATED, clean
from training.csv_records import MAX_RECORD_LINES
from training.importers import READERS, canonical, read_tables
from training.importers.csv_rows import records
from training.importers.json_files import json_lines, whole_number
from training.importers.tables import CHUNK, DataError, Tables
from training.rejections import MAX_EXAMPLE, MAX_LINES, Rejections

ITEMS = "item_id,title\n1,One\n2,Two\n3,Three\n"


def csv_log(folder: Path, log: str, items: str = ITEMS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text(items, "utf-8")
    (folder / "interactions.csv").write_text(log, "utf-8")
    return folder


def imported(folder: Path, form: str = "csv", **columns: str) -> Tables:
    tables = clean(read_tables(form, folder, columns))
    assert tables.interactions.height >= 0  # the counts are complete once the chunks were read
    return tables


def rows(tables: Tables) -> list[tuple[str, str]]:
    return tables.interactions.select("user_id", "item_id").rows()


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


def test_blanks_around_the_names_of_public_files_are_no_part_of_them(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId, title ,genres\n1,Heat,Crime\n", "utf-8")
    (tmp_path / "ratings.csv").write_text("userId ,movieId,rating, timestamp\n7,1,4.0,9\n", "utf-8")
    (tmp_path / "x_titles.csv").write_text("item , title\n1,Cats\n", "utf-8")
    (tmp_path / "x_pairs.csv").write_text(" user,item, timestamp\n7,1,9\n", "utf-8")
    assert rows(imported(tmp_path, "movielens")) == [("7", "1")]
    assert rows(imported(tmp_path, "microlens")) == [("7", "1")]


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


def test_parquet_files_may_hold_ids_as_floats(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": [1, 2], "title": ["One", "Two"]}).write_parquet(
        tmp_path / "items.parquet"
    )
    log = {"user_id": [7.0, 7.0, None], "item_id": [1.0, 2.0, 1.5], "timestamp": [1, 2, 3]}
    pl.DataFrame(log).write_parquet(tmp_path / "interactions.parquet")
    tables = imported(tmp_path, "canonical")
    assert rows(tables) == [("7", "1"), ("7", "2")]
    assert tables.rejected.counts["interaction without a user"] == 1
    assert len(tables.rejected.notes()) == 2


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    for name, frames in (
        ("items", [pl.DataFrame({"item_id": [1, 2], "title": ["One", "Two"]})]),
        (
            "interactions",
            [pl.DataFrame({"user_id": [7], "item_id": [n], "timestamp": [n]}) for n in (1, 2)],
        ),
    ):
        for form, write in (
            ("parquet", pl.DataFrame.write_parquet),
            ("csv", pl.DataFrame.write_csv),
        ):
            folder = tmp_path / form / f"{name}.{form}"
            folder.mkdir(parents=True)
            (folder / "_SUCCESS").touch()
            (folder / f".part-00000.{form}.crc").write_bytes(b"crc")
            for number, frame in enumerate(frames):
                write(frame, folder / f"part-{number:05}.{form}")
    assert rows(imported(tmp_path / "parquet", "canonical")) == [("7", "1"), ("7", "2")]
    assert rows(imported(tmp_path / "csv")) == [("7", "1"), ("7", "2")]
    for part in (tmp_path / "csv" / "items.csv").glob("part*"):
        part.unlink()
    with pytest.raises(DataError, match=r"items\.csv is a folder without parts"):
        imported(tmp_path / "csv")


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    folder = csv_log(
        tmp_path, "Visitor,movie,when\nu,1,2024-01-01\n", "movie,Title,title\n1,One,old\n"
    )
    mapping = {"user_id": "Visitor", "item_id": "movie", "title": "Title", "timestamp": "when"}
    tables = imported(folder, **mapping)
    assert tables.items.rows() == [("1", "One")]
    assert rows(tables) == [("u", "1")]


def test_a_mapped_column_may_have_another_case_in_each_file(tmp_path: Path) -> None:
    folder = csv_log(tmp_path, "USER,ITEM,timestamp\nu,1,1\n", "Item,title\n1,One\n")
    assert rows(imported(folder, user_id="User", item_id="Item")) == [("u", "1")]


def test_lines_that_end_with_carriage_returns_alone_are_named(tmp_path: Path) -> None:
    csv_log(tmp_path, "user_id,item_id\nu,1\n")
    (tmp_path / "items.csv").write_bytes(b"item_id,title\r1,One\r")
    with pytest.raises(DataError, match=r"items\.csv: its lines end with carriage returns alone"):
        imported(tmp_path)


def test_a_column_that_is_missing_is_named_with_the_nearest(tmp_path: Path) -> None:
    folder = csv_log(tmp_path, "userId,Item_ID\nu,1\n", "movieId,Titel\n1,One\n")
    with pytest.raises(DataError) as caught:
        imported(folder)
    for part in (
        "the file of items lacks item_id, title; it has movieId, Titel",
        "--column item_id=movieId --column title=Titel",
        "the file of interactions lacks user_id, item_id; it has userId, Item_ID",
        "--column user_id=userId --column item_id=Item_ID",
    ):
        assert part in str(caught.value)
    with pytest.raises(
        DataError, match="column title=Name: no file has 'Name'; file of items has movieId, Titel"
    ):
        imported(folder, title="Name")
    with pytest.raises(DataError, match=r"separated by ';', expected commas"):
        imported(csv_log(tmp_path, "user_id;item_id\nu;1\n"))
    with pytest.raises(DataError, match="columns are given for canonical, csv, recbole"):
        imported(folder, "mind", title="Name")


def test_an_optional_column_under_another_name_is_noted(tmp_path: Path) -> None:
    folder = csv_log(
        tmp_path / "csv",
        "user_id,item_id,Time\nu,1,2\nu,2,1\n",
        "item_id,title,Image\n1,One,a.jpg\n2,Two,b\n",
    )
    unread = imported(folder)
    image, time = unread.rejected.notes()
    assert "the file of items has no column image, items without a title are left out" in image
    assert "--column image=Image reads Image as it" in image
    assert (
        "the file of interactions has no column timestamp, the order of the file is taken" in time
    )
    assert "--column timestamp=Time reads Time as it" in time
    assert unread.rejected.total == 0
    mapped = imported(folder, timestamp="Time", image="Image")
    assert mapped.rejected.notes() == []
    assert mapped.interactions["timestamp"].to_list() == [2, 1]
    (tmp_path / "x.item").write_text("item_id:token\ttitle:token_seq\n1\tOne\n", "utf-8")
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\tTimestamp:float\nu\t1\t5\n", "utf-8"
    )
    [note] = imported(tmp_path, "recbole").rejected.notes()
    assert "--column timestamp=Timestamp" in note


def test_a_catalog_of_parquet_takes_the_mapping_too(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": [1], "Title": ["One"]}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"user_id": [7], "item_id": [1], "timestamp": [1]}).write_parquet(
        tmp_path / "interactions.parquet"
    )
    with pytest.raises(
        DataError, match=r"items\.parquet lacks title; it has item_id, Title .*--column title=Title"
    ):
        imported(tmp_path, "canonical")
    assert imported(tmp_path, "canonical", title="Title").items["title"].to_list() == ["One"]


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


def test_a_column_of_nulls_is_no_title(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": [1, 2], "title": [None, None]}).write_parquet(
        tmp_path / "items.parquet"
    )
    pl.DataFrame({"user_id": [7], "item_id": [1], "timestamp": [1]}).write_parquet(
        tmp_path / "interactions.parquet"
    )
    with pytest.raises(
        DataError, match="none of the 2 items can be used: most often item without a title"
    ):
        imported(tmp_path, "canonical")


def test_an_item_that_was_left_out_is_not_one_that_the_catalog_lacks(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp\nu,1,1\nu,2,2\nu,9,3\nu,1,4\n"
    tables = imported(csv_log(tmp_path, log, "item_id,title\n1,One\n2,\n"))
    assert tables.rejected.counts == {
        "item without a title": 1,
        "interaction with an item that was left out": 1,
        "interaction with an item that the catalog lacks": 1,
    }
    assert tables.rejected.total == 3


def test_what_public_data_sets_are_known_to_lack_is_a_note(tmp_path: Path) -> None:
    events = [
        {"userId": "u", "id": name, "title": title, "time": 1}
        for name, title in (("a", "A"), ("b", ""))
    ]
    (tmp_path / "20170101").write_text(
        "".join(json.dumps(event) + "\n" for event in events), "utf-8"
    )
    tables = imported(tmp_path, "adressa")
    assert (tables.rejected.total, len(tables.rejected.notes())) == (0, 2)
    (tmp_path / "20170102").write_bytes(b'{"userId": "u", "id": "a", "time": "soon"}\n\xff\n[1]\n')
    assert imported(tmp_path, "adressa").rejected.to_json() == {
        "event: not UTF-8": {"count": 1, "example": "20170102, line 2: \ufffd"},
        "event: no JSON object": {"count": 1, "example": "20170102, line 3: [1]"},
        "interaction without a usable timestamp": {"count": 1, "example": "u"},
    }


def test_times_in_quotes_are_numbers(tmp_path: Path) -> None:
    first = {"userId": "u", "id": "a", "title": "A", "time": 1483225227}
    second = {"userId": "u", "id": "b", "title": "B", "time": "1483225226"}
    (tmp_path / "20170101").write_bytes(
        b"\xef\xbb\xbf" + f"{json.dumps(first)}\n{json.dumps(second)}\n".encode()
    )
    tables = imported(tmp_path, "adressa")
    assert tables.interactions.sort("timestamp")["item_id"].to_list() == ["b", "a"]
    assert tables.rejected.counts == {}
    assert [
        whole_number(one)
        for one in ("7", "7.0", 7.9, "x", True, float("nan"), "9" * 400, 10**400, None)
    ] == [*(7, 7, 7, None, None, None, None, None, None)]


def test_amazons_first_edition_of_python_dicts_is_read(tmp_path: Path) -> None:
    lines = [
        "{'asin': 'A1', 'title': 'Hammer', 'related': {'also_bought': ['B1']}}",
        r"{'asin': 'A2', 'title': 'Joe\'s \/ saw', 'price': 9.9}",
        "{'asin': __import__('os').getcwd()}",
        "{'asin': " + "[" * 5000,
        '{"asin": "A3", "title": "half \\ud83d pair"}',
    ]
    (tmp_path / "meta_tools.json").write_text("\n".join(lines), "utf-8")
    reviews = [
        {"reviewerID": "U", "asin": name, "unixReviewTime": time}
        for name, time in (("A2", "2"), ("A1", 1))
    ]
    (tmp_path / "music_tools.JSON").write_text(
        "".join(json.dumps(row) + "\n" for row in reviews), "utf-8"
    )
    tables = imported(tmp_path, "amazon")
    assert tables.items["title"].to_list() == ["Hammer", r"Joe's \/ saw", "half ? pair"]
    assert tables.interactions.sort("timestamp")["item_id"].to_list() == ["A1", "A2"]
    assert tables.rejected.counts == {"meta_tools.json: no JSON object": 2}


def test_json_that_is_too_deep_is_one_bad_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000 + "\n{}\n", "utf-8")
    rejected = Rejections()
    assert list(json_lines(tmp_path / "x.json", rejected, literals=True)) == [{}]
    assert rejected.counts == {"x.json: no JSON object": 1}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_the_titles_of_movielens_are_read_in_the_encoding_of_their_release(
    tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "movies.dat").write_bytes("1::Amélie (2001)::Comedy\n".encode(encoding))
    (tmp_path / "ratings.dat").write_text("1::1::5::838985046\n", "utf-8")
    assert imported(tmp_path, "movielens").items["title"].to_list() == ["Amélie (2001)"]


def test_a_title_without_an_item_is_counted(tmp_path: Path) -> None:
    (tmp_path / "x_items.tsv").write_text("v1\tOne\n\tLost\n", "utf-8")
    (tmp_path / "x_users.tsv").write_text("u\tv1\n", "utf-8")
    tables = imported(tmp_path, "adapter4rec")
    assert tables.items["item_id"].to_list() == ["v1"]
    assert tables.rejected.counts == {"x_items.tsv: a title without an item": 1}


def test_days_without_a_date_are_counted(tmp_path: Path) -> None:
    columns = "article_id,prod_name,product_type_name,colour_group_name,department_name,detail_desc"
    (tmp_path / "articles.csv").write_text(f"{columns}\n0000000001,A,,,,\n", "utf-8")
    days = "t_dat,customer_id,article_id\n,c,1\n2018-09-20,c,1\n2018-09-20,c,1\n"
    (tmp_path / "transactions_train.csv").write_text(days, "utf-8")
    tables = imported(tmp_path, "hm")
    assert tables.interactions.height == 1
    assert tables.rejected.to_json() == {
        "interaction without a usable timestamp": {"count": 1, "example": "c"}
    }
    assert tables.rejected.counts["article that is bought again on the same day"] == 1


@pytest.mark.parametrize("form", READERS)
def test_a_folder_of_empty_files_is_a_plain_error(tmp_path: Path, form: str) -> None:
    names = (
        *(
            "items.csv",
            "interactions.csv",
            "items.parquet",
            "interactions.parquet",
            "x.item",
            "x.inter",
        ),
        *(
            "x_users.tsv",
            "x_items.tsv",
            "news.tsv",
            "behaviors.tsv",
            "meta_x.json",
            "x.json",
            "movies.csv",
        ),
        *(
            "ratings.csv",
            "articles.csv",
            "transactions_train.csv",
            "a_titles.csv",
            "a_pairs.csv",
            "y_item.csv",
        ),
        "y_pair.csv",
    )
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError):
        imported(tmp_path, form)


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
