"""Backbones whose folders share a name are told apart."""

from __future__ import annotations

from pathlib import Path

from service.engine.backbones import unique_names
from service.settings import Settings
from tests.service.conftest import running
from tests.tiny import tiny_backbone


def test_two_folders_of_one_name_are_listed_and_chosen_with_their_parents(tmp_path: Path) -> None:
    folders = [tmp_path / "runs" / name / "backbone" for name in ("books", "films")]
    books, films = (tiny_backbone(folder, seed).fingerprint for seed, folder in enumerate(folders))
    with running(Settings(data=tmp_path / "data", backbones=tuple(folders), port=0)) as http:
        listed = {one["fingerprint"]: one["name"] for one in http.get("/info").json()["backbones"]}
        assert listed == {books: "books/backbone", films: "films/backbone"}
        refused = http.put("/domains/news", json={"backbone": "backbone"})
        assert refused.status_code == 422, refused.text
        assert "fits 2 of them" in refused.json()["detail"]
        assert f"films/backbone ({films[:12]})" in refused.json()["detail"]
        assert http.put("/domains/news", json={"backbone": "films/backbone"}).status_code == 201
        assert http.get("/domains/news").json()["backbone"] == films


def test_a_name_is_as_short_as_it_may_be_and_never_twice_there() -> None:
    folders = {
        "a" * 64: Path("/one/tiny"),
        "b" * 64: Path("/one/x/backbone"),
        "c" * 64: Path("/two/x/backbone"),
        "d" * 64: Path("/two/y/backbone"),
    }
    assert list(unique_names(folders).values()) == [
        "tiny",
        "backbone-bbbbbbbb",
        "backbone-cccccccc",
        "y/backbone",
    ]
