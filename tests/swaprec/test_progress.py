"""Long commands say how far they are, on stderr; JSON in a pipe comes alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from swaprec.client import Client
from tests.swaprec.conftest import World
from tests.swaprec.in_process import invoke
from training import progress
from training.progress import Reporter


def test_an_evaluation_says_what_it_does_on_stderr_and_its_basis(url: str, world: World) -> None:
    invoke("push", world.run, "--catalog", "--create", "--activate", "--url", url)
    done = invoke("evaluate", world.run, "--against", url)
    assert done.exit_code == 0, done.output
    for stage in (
        "read the data",
        "embed 40 items with the adapter",
        "rank for 60 users",
        f"ask {url} for 60 users",
    ):
        assert f"walk: {stage}" in done.stderr
        assert stage not in done.stdout
    assert "measured on 60 users, 40 items, seed 0, data " in done.stderr
    alone = invoke("evaluate", world.run, "--json")
    assert alone.stderr == ""
    assert json.loads(alone.stdout)["baselines"].keys() == {
        "none",
        "popularity",
        "recent_popularity",
        "item_knn",
    }


def test_a_stage_that_takes_long_says_how_far_it_is_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    console = Console(file=io.StringIO(), width=200)
    with Reporter("walk", console) as reporter:
        step = reporter.stage("embed 40 items")
        for done in (10, 20, 40):
            step(done, 40)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "walk: embed 40 items",
        "walk: embed 40 items 25%",
        "walk: embed 40 items 50%",
    ]


def test_an_experiment_without_its_data_names_all_that_is_missing_and_begins_nothing(
    tmp_path: Path,
) -> None:
    words: list[str | Path] = [
        "experiment",
        "7-scale",
        "--data",
        tmp_path / "none",
        "--out",
        tmp_path / "out",
    ]
    done = invoke(*words)
    assert done.exit_code != 0
    said = str(done.exception)
    assert "2 are missing" in said
    assert "ml_1m_posters is not there" in said
    assert "amazon_instruments is not there" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("swaprec import m", ["mind", "movielens", "microlens"]),
        ("swaprec experiment 3-", ["3-capacity", "3-search"]),
    ],
)
def test_a_shell_completes_forms_of_logs_and_packaged_experiments(
    line: str, offered: list[str]
) -> None:
    env = {
        **os.environ,
        "_SWAPREC_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": "2",
    }
    command = [Path(sys.executable).with_name("swaprec")]
    found = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False
    ).stdout.split()
    assert sorted(found) == sorted(offered)


def test_completion_offers_files_beside_the_packaged_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swaprec.cli.options import complete_experiment

    (tmp_path / "mine.toml").write_text("", "utf-8")
    (tmp_path / "notes.txt").write_text("", "utf-8")
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete_experiment("m") == ["mine.toml", "more/"]
    assert complete_experiment(f"{tmp_path}/mi") == [f"{tmp_path}/mine.toml"]


def test_the_client_reads_what_is_not_ready(client: Client) -> None:
    assert client.readiness() == {"status": "ready", "loading": {}, "broken": {}, "degraded": {}}
