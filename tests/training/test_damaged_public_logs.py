"""Public data sets with the damage that they are known for, or that a download leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.csv_logs import imported, rows
from training.importers import READERS
from training.importers.json_files import json_lines, whole_number
from training.importers.tables import DataError
from training.rejections import Rejections


def test_blanks_around_the_names_of_public_files_are_no_part_of_them(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId, title ,genres\n1,Heat,Crime\n", "utf-8")
    (tmp_path / "ratings.csv").write_text("userId ,movieId,rating, timestamp\n7,1,4.0,9\n", "utf-8")
    (tmp_path / "x_titles.csv").write_text("item , title\n1,Cats\n", "utf-8")
    (tmp_path / "x_pairs.csv").write_text(" user,item, timestamp\n7,1,9\n", "utf-8")
    assert rows(imported(tmp_path, "movielens")) == [("7", "1")]
    assert rows(imported(tmp_path, "microlens")) == [("7", "1")]


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


def test_one_title_in_another_encoding_changes_no_other_title(tmp_path: Path) -> None:
    titles = ["1::Amélie (2001)::Comedy\n".encode(), "2::Léon (1994)::Crime\n".encode("latin-1")]
    (tmp_path / "movies.dat").write_bytes(b"".join(titles))
    (tmp_path / "ratings.dat").write_text("1::1::5::838985046\n", "utf-8")
    read = imported(tmp_path, "movielens").items["title"].to_list()
    assert read == ["Amélie (2001)", "Léon (1994)"]


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
