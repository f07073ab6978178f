"""Counting before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swaprec.errors import USAGE
from swaprec.parameters import LIKE
from tests.swaprec.conftest import World
from tests.swaprec.test_cli import swaprec

HOULSBY = '[item]\nkind = "houlsby"\n[user]\nkind = "houlsby"\n'


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(HOULSBY, "utf-8")
    return path


def test_houlsby_on_bert_base_is_the_papers_two_percent(spec: Path) -> None:
    done = swaprec("params", str(spec), "--like", "bert-base")
    assert done.returncode == 0, done.stderr
    assert all(
        number in done.stdout
        for number in ("2,379,264", "8,512", "2,387,776", "2.19%", "109,041,728")
    )


def test_a_runs_file_counts_on_its_own_backbone(world: World, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        f'backbone.folder = "{world.backbone}"\n[adapter.item]\nkind = "lora"\nhidden = 4\n',
        "utf-8",
    )
    counted = json.loads(swaprec("params", str(path), "--json").stdout)
    assert (counted["item"], counted["user"], counted["backbone"]) == (
        2 * 2 * 2 * 4 * 16,
        0,
        str(world.backbone),
    )
    assert counted["share"] == counted["total"] / counted["full"]


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        (HOULSBY, (), "names no backbone"),
        (HOULSBY, ("--like", "bert"), f"expected one of {', '.join(LIKE)}"),
        (HOULSBY, ("--backbone", "nowhere"), "nowhere, which is no backbone folder"),
        ('[item]\nkind = "houlsbi"\nhiden = 3\n', ("--like", "minilm"), "item.hiden: unknown key"),
        (
            '[item]\nkind = "compacter"\nhidden = 6\n',
            ("--like", "minilm"),
            "n: 4 does not divide hidden 6",
        ),
        ("item = ", (), "is not TOML"),
    ],
)
def test_what_cannot_be_counted_says_why(
    spec: Path, text: str, more: tuple[str, ...], says: str
) -> None:
    spec.write_text(text, "utf-8")
    done = swaprec("params", str(spec), *more)
    assert (done.returncode, says in " ".join(done.stderr.split())) == (USAGE, True), done.stderr
