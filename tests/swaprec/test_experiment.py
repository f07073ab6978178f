"""`swaprec experiment` and `swaprec report`: real runs in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from swaprec.errors import Stop
from tests.checkpoints import bert_checkpoint
from tests.swaprec.in_process import invoke
from tests.training.conftest import tiny_log

FILE = """
title = "Tiny kinds"
question = "Do they run?"
seeds = [0, 1]
[base]
stage = "adapt"
domain = "walk"
[base.data]
folder = "log"
[base.backbone]
encoder = "ENCODER"
width = 16
max_history = 6
max_tokens = 12
[base.train]
epochs = 2
batch_size = 16
lr = 5e-3
threads = 1
embed_dtype = "float32"
[base.adapter]
user = { kind = "houlsby", hidden = 4 }
[sources.walk]
[axes.source.walk]
source = "walk"
[axes.method]
houlsby = { adapter = { item = { kind = "houlsby", hidden = 8 } } }
user_only = {}
full = { stage = "finetune", seeds = [0] }
ids = { stage = "ids", seeds = [0] }
"""
SEARCH = """
[search]
trials = 4
within = 0.2
keys = { "adapter.item.hidden" = [4, 32] }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, an encoder, and an experiment's file that names them."""
    folder = tmp_path_factory.mktemp("experiment")
    tiny_log(folder / "data" / "log")
    encoder = bert_checkpoint(folder / "bert")
    (folder / "kinds.toml").write_text(FILE.replace("ENCODER", str(encoder)), "utf-8")
    (folder / "search.toml").write_text((FILE + SEARCH).replace("ENCODER", str(encoder)), "utf-8")
    return folder


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "swaprec", "experiment", *words, "--data", str(folder / "data")]


def swaprec(line: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        line, capture_output=True, text=True, timeout=400, check=False, env=environment, **more
    )


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
    """The experiment, run once."""
    line = command(
        folder, str(folder / "kinds.toml"), "--out", str(folder / "out"), "--jobs", "2", "--json"
    )
    finished = swaprec(line)
    assert finished.returncode == 0, finished.stderr
    summary = json.loads(finished.stdout)
    assert (len(summary["done"]), summary["kept"], summary["failed"]) == (7, [], {})
    return folder / "out"


@pytest.mark.slow
def test_all_runs_leave_their_results_and_a_second_time_nothing_runs(
    folder: Path, done: Path
) -> None:
    assert sorted(path.parent.name for path in done.glob("*/result.json")) == [
        "walk-full-s0",
        "walk-houlsby-s0",
        "walk-houlsby-s1",
        "walk-ids-s0",
        "walk-user_only-s0",
        "walk-user_only-s1",
    ]
    line = command(folder, str(folder / "kinds.toml"), "--out", str(done))
    refused = swaprec(line)
    assert (refused.returncode, "--resume goes on with it" in refused.stderr) == (2, True)
    again = swaprec([*line, "--resume"])
    assert again.stdout.startswith("0 done, 7 kept, 0 failed")


@pytest.mark.slow
def test_a_failed_run_does_not_stop_the_others_and_is_named(folder: Path, tmp_path: Path) -> None:
    words = [
        "base.train.epochs=1",
        "axes.method.houlsby.train.lr=1e30",
        "axes.method.houlsby.train.epochs=30",
    ]
    line = command(folder, str(folder / "kinds.toml"), *words, "--out", str(tmp_path / "out"))
    failed = swaprec([*line, "--only", "method=houlsby,user_only", "--json"])
    summary = json.loads(failed.stdout)
    assert failed.returncode == 1
    assert sorted(summary["failed"]) == ["walk-houlsby-s0", "walk-houlsby-s1"]
    assert "lower train.lr and start again" in summary["failed"]["walk-houlsby-s0"]
    assert summary["done"] == ["sources/walk", "walk-user_only-s0", "walk-user_only-s1"]


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_numbers(
    folder: Path, done: Path, tmp_path: Path
) -> None:
    line = command(
        folder,
        str(folder / "kinds.toml"),
        "--out",
        str(tmp_path / "out"),
        "--only",
        "method=houlsby",
    )
    for wait in (6.0, 9.0):
        process = subprocess.Popen(
            [*line, "--resume"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert swaprec([*line, "--resume"]).returncode == 0
    for name in ("walk-houlsby-s0", "walk-houlsby-s1"):
        one, two = (
            json.loads((where / name / "result.json").read_text("utf-8"))
            for where in (done, tmp_path / "out")
        )
        assert one["test"] == two["test"]
        assert one["curves"] == two["curves"]


@pytest.mark.slow
def test_a_search_returns_the_smallest_of_the_good_ones(folder: Path, tmp_path: Path) -> None:
    line = command(folder, str(folder / "search.toml"), "--out", str(tmp_path / "out"), "--json")
    found = json.loads(swaprec(line).stdout)["search"]
    results = [
        json.loads(path.read_text("utf-8"))
        for path in (tmp_path / "out" / "trials").glob("*/result.json")
    ]
    assert found["trials"] == 4
    best = max(max(result["curves"]["hr"]) for result in results)
    near = [result for result in results if max(result["curves"]["hr"]) >= 0.8 * best]
    assert found["parameters"] == min(result["parameters"]["total"] for result in near)
    assert found["best_validation_hr"] == best
    again = json.loads(swaprec([*line, "--resume"]).stdout)["search"]
    assert again == found


class _Page(HTMLParser):
    """What a page fetches, and its visible words."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe"):
            self.fetched.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.slow
def test_the_report_is_one_page_that_fetches_nothing_and_shows_every_number(
    done: Path, tmp_path: Path
) -> None:
    finished = swaprec(
        [sys.executable, "-m", "swaprec", "report", str(done), "--out", str(tmp_path), "--json"]
    )
    assert finished.returncode == 0, finished.stderr
    summary = json.loads(finished.stdout)
    assert summary["runs"] == 6
    html = Path(summary["html"]).read_text("utf-8")
    page = _Page()
    page.feed(html)
    words = " ".join(page.words)
    markdown = Path(summary["markdown"]).read_text("utf-8")
    assert page.fetched == []
    assert html.count("<svg") == 4
    assert "url(http" not in html
    for path in done.glob("*/result.json"):
        if not path.parent.name.endswith("s1") and "full" in path.parent.name:
            hr = f"{json.loads(path.read_text('utf-8'))['test']['hr']:.4f}"
            assert hr in words
            assert hr in markdown
    assert "Tiny kinds" in words
    assert "user_only leaves the item side frozen" in words
    assert "swaprec experiment" in markdown
    assert sorted((tmp_path / "plots").glob("*.svg"))


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    failed = swaprec(
        [
            sys.executable,
            "-m",
            "swaprec",
            "report",
            str(tmp_path),
            "--out",
            str(tmp_path / "report"),
        ]
    )
    assert failed.returncode != 0
    assert "no result.json below" in failed.stderr


def test_every_folder_that_is_not_there_is_named_and_no_report_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    out = tmp_path / "report"
    refused = invoke("report", tmp_path / "there", tmp_path / "a", tmp_path / "b", "--out", out)
    assert isinstance(refused.exception, Stop)
    assert str(refused.exception) == f"{tmp_path / 'a'}, {tmp_path / 'b'}: no such folder"
    assert not out.exists()
