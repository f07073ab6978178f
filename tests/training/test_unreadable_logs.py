"""Folders that no importer can read: the error names what is expected and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from training.cleaning import clean
from training.importers import canonical, read_tables
from training.importers.tables import DataError


def test_a_cut_off_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "meta_x.json.gz").write_bytes(gzip.compress(b'{"asin": "B1"}\n' * 1000)[:-20])
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(DataError, match=r"meta_x\.json\.gz is damaged or cut off"):
        read_tables("amazon", tmp_path)


def test_an_import_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat,Crime\n", "utf-8")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.0,1\n", "utf-8")
    canonical.write(clean(read_tables("movielens", tmp_path)), tmp_path / "out")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,7,4.0,1\n", "utf-8")
    with pytest.raises(DataError, match="1 of 1 interactions name items that the catalog lacks"):
        canonical.write(clean(read_tables("movielens", tmp_path)), tmp_path / "out")
    assert read_tables("canonical", tmp_path / "out").interactions.height == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "interactions.parquet",
        "items.parquet",
    ]


@pytest.mark.parametrize("items", ["", "v1\tA title\n"], ids=["empty", "tabs"])
def test_ninerec_items_of_another_form_are_named(tmp_path: Path, items: str) -> None:
    (tmp_path / "DY_item.csv").write_text(items, "utf-8")
    with pytest.raises(
        DataError, match=r"DY_item\.csv: expected rows of item_id, title, title_en, found"
    ):
        read_tables("ninerec", tmp_path)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("mind", "no news.tsv in it or below"),
        ("amazon", "expected one file of metadata"),
        ("movielens", "this is no MovieLens release"),
        ("adressa", "no files of events"),
        ("hm", "articles.csv is not there"),
        ("microlens", "expected one file of titles"),
        ("pixelrec", "and one of item features, found no CSV file"),
        ("ninerec", "expected one file of items"),
    ],
)
def test_a_folder_of_something_else_says_what_is_expected(
    tmp_path: Path, form: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        read_tables(form, tmp_path)


def test_a_column_that_is_missing_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_text("article_id,name\n1,x\n", "utf-8")
    with pytest.raises(
        DataError, match=r"articles\.csv lacks prod_name, .*; it has article_id, name"
    ):
        read_tables("hm", tmp_path)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("canonical", ("items.parquet", "interactions.parquet")),
        ("csv", ("items.csv", "interactions.csv")),
        ("adapter4rec", ("x_users.tsv", "x_items.tsv")),
        ("recbole", ("x.item", "x.inter")),
        ("mind", ("news.tsv", "behaviors.tsv")),
        ("movielens", ("u.data", "u.item")),
        ("movielens", ("ratings.csv", "movies.csv")),
        ("hm", ("articles.csv", "transactions_train.csv")),
        ("microlens", ("x_titles.csv", "x_pairs.csv")),
        ("pixelrec", ("x.csv", "y.csv")),
        ("ninerec", ("x_item.csv", "x_pair.csv")),
    ],
)
def test_a_file_that_is_there_compressed_is_named_with_what_to_do(
    tmp_path: Path, form: str, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"a,b\n"))
    with pytest.raises(DataError, match=r"\.gz is compressed by gzip: unpack it with gunzip"):
        read_tables(form, tmp_path)


def test_a_compressed_part_or_file_of_another_name_is_named_with_what_to_do(tmp_path: Path) -> None:
    for place in ("parts/items.csv/part-0.csv.gz", "named/items.csv"):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(b"item_id,title\n1,One\n"))
        folder = tmp_path / place.partition("/")[0]
        (folder / "interactions.csv").write_text("user_id,item_id\nu,1\n")
        with pytest.raises(DataError, match=f"{path.name} is compressed by gzip: unpack it"):
            read_tables("csv", folder)
