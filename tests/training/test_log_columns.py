"""The columns of a log: under other names, in parts, missing."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.training.csv_logs import csv_log, imported, rows
from training.importers.tables import DataError


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
            # Of a partition without rows.
            (folder / f"part-00009.{form}").touch()
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
