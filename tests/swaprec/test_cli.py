from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from swaprec.cli import app
from swaprec.client import Client
from swaprec.errors import FAILED, INTERRUPTED, REFUSED, REJECTED, UNREACHABLE, USAGE
from tests.swaprec.conftest import World

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands() -> list[tuple[str, ...]]:
    """The words of every command."""
    return [
        words
        for name, command in COMMANDS.items()
        for words in (
            [(name, inner) for inner in command.commands]
            if hasattr(command, "commands")
            else [(name,)]
        )
    ]


def swaprec(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swaprec", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **environment},
        stdin=subprocess.DEVNULL,
    )


def test_the_served_numbers_equal_the_trainers(url: str, world: World, client: Client) -> None:
    pushed = swaprec("push", world.run, "--catalog", "--create", "--activate", "--url", url)
    assert (pushed.returncode, pushed.stdout) == (0, "walk@1\n"), pushed.stderr
    done = swaprec("evaluate", world.run, "--against", url, "--json")
    assert done.returncode == 0, done.stderr
    compared = json.loads(done.stdout)
    assert compared["agrees"]
    assert compared["served"]["hr"] == compared["offline"]["hr"] > 0
    assert compared["served"]["users"] == 60
    client.activate("walk", "none")
    other = swaprec("evaluate", world.run, "--against", url)
    assert other.returncode == FAILED
    assert "walk answers from version none" in other.stderr


def test_recommendations_are_a_table_or_json(url: str, world: World) -> None:
    swaprec("push", world.run, "--catalog", "--create", "--activate", SWAPREC_URL=url)
    shown = swaprec("recommend", "walk", "i1", "i2", "-k", "3", SWAPREC_URL=url)
    assert shown.returncode == 0
    assert "walk, version 1" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    answer = json.loads(swaprec("recommend", "walk", "i1", "--url", url, "--json").stdout)
    assert len(answer["items"]) == 10
    popular = swaprec("recommend", "walk", "--url", url)
    assert "popular items (empty_history)" in " ".join(popular.stdout.split())


def test_training_and_evaluation_from_the_command_line(world: World, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        f"""
        stage = "adapt"
        domain = "walk"
        output = "run"
        data.folder = "{world.log}"
        backbone.folder = "{world.backbone}"
        adapter.user.kind = "houlsby"
        """,
        "utf-8",
    )
    done = swaprec("train", tmp_path / "run.toml", "train.epochs=2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert Path(report["artifact"]).is_file()
    assert "epoch 2/2" in done.stderr
    assert len((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 2
    evaluated = json.loads(swaprec("evaluate", tmp_path / "run", "--json").stdout)
    assert evaluated["offline"] == report["test"]
    again = swaprec("train", tmp_path / "run.toml")
    assert again.returncode == FAILED
    assert "--resume goes on with it" in again.stderr


def test_an_import_says_what_it_could_not_use(tmp_path: Path) -> None:
    (tmp_path / "users.tsv").write_text("U1\tN1 N2 N9\nbroken\n", "utf-8")
    (tmp_path / "items.tsv").write_text("N1\tEn\nN2\tTo\n", "utf-8")
    done = swaprec("import", "adapter4rec", tmp_path, tmp_path / "out")
    assert (done.returncode, done.stdout.startswith("2 items, 2 interactions in")) == (
        REJECTED,
        True,
    )
    first, *_, last, hint = done.stderr.splitlines()
    assert first == "not used: 1 times: users.tsv: no two fields, for example line 2: broken"
    assert "1 times: interaction with an item that the catalog lacks, for example N9" in done.stderr
    assert last.startswith("error: 2 rows were rejected; all others are in")
    assert "--allow-rejected" in hint
    accepted = swaprec(
        "import", "adapter4rec", tmp_path, tmp_path / "out", "--allow-rejected", "--json"
    )
    assert (
        accepted.returncode,
        json.loads(accepted.stdout)["rejected"]["users.tsv: no two fields"]["count"],
    ) == (0, 1)
    counts = json.loads(
        swaprec("import", "canonical", tmp_path / "out", tmp_path / "again", "--json").stdout
    )
    assert (counts["items"], counts["rejected"]) == (2, {})


def test_what_was_counted_of_a_log_is_said_before_the_error_that_ends_its_import(
    tmp_path: Path,
) -> None:
    (tmp_path / "items.csv").write_text("item_id,Title\n1,\n", "utf-8")
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\nu,1,01/12/2024\n", "utf-8"
    )
    done = swaprec("import", "csv", tmp_path, tmp_path / "out", "--column", "title=Title")
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert done.stderr.splitlines()[0] == "not used: 1 times: item without a title, for example 1"
    assert "error:" in done.stderr.splitlines()[1]
    for options, says in (
        (("--column", "title"), "--column title"),
        (("--column", "title=a", "--column", "title=b"), "--column title=… is given twice"),
        (("--time-format", "noon"), "'noon' is no form of dates"),
    ):
        refused = swaprec("import", "csv", tmp_path, tmp_path / "out", *options)
        assert (refused.returncode, refused.stdout) == (USAGE, "")
        assert says in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ("recommend", "walk", "--url", "http://127.0.0.1:9"),
            UNREACHABLE,
            "swaprec serve starts one",
        ),
        (
            ("recommend", "walk", "--url", "walk"),
            USAGE,
            "expected for example http://127.0.0.1:8000",
        ),
        (
            ("evaluate", ".", "--against", "127.0.0.1:80"),
            USAGE,
            "expected for example http://127.0.0.1:8000",
        ),
        (("train", "nowhere.toml"), USAGE, "nowhere.toml: there is no such file"),
        (("push", "nowhere"), USAGE, "nowhere is not there"),
        (("evaluate", "nowhere"), USAGE, "nowhere is not the folder of a run"),
        (
            ("import", "excel", ".", "out"),
            FAILED,
            "expected one of canonical, csv, adapter4rec, recbole",
        ),
        (("serve", "--host", "0.0.0.0"), USAGE, "SWAPREC_INSECURE=1"),  # noqa: S104 - the point
        (("recomend",), USAGE, "No such command"),
    ],
)
def test_what_goes_wrong_is_a_message_and_a_code_never_a_traceback(
    arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = swaprec(*arguments)
    assert done.returncode == code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_refusal_of_the_service_has_its_own_code(url: str) -> None:
    done = swaprec("recommend", "nowhere", "i1", "--url", url)
    assert done.returncode == REFUSED
    assert "domain_not_found" in done.stderr
    assert "hint: swaprec push RUN --catalog --create" in done.stderr


def test_every_command_explains_itself_quickly_and_without_torch() -> None:
    assert {"demo", "serve", "train", "evaluate", "push", "import", "recommend"} <= set(COMMANDS)
    for words in commands():
        done = CliRunner().invoke(app, [*words, "--help"])
        assert done.exit_code == 0
        assert "--help" in done.output
    code = (
        "import sys, swaprec.cli; print(sorted({'torch', 'transformers', 'polars', 'fastapi'} &"
        " set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert loaded == "[]\n"


def test_every_command_that_answers_answers_in_json() -> None:
    talking = {("serve",)}
    for words in commands():
        if words not in talking:
            assert "--json" in CliRunner().invoke(app, [*words, "--help"]).output, words


def test_ctrl_c_ends_a_training_with_its_own_code_and_no_traceback(
    world: World, tmp_path: Path
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        'stage = "adapt"\ndomain = "walk"\noutput = "run"\ndata.folder ='
        f' "{world.log}"\nbackbone.folder = "{world.backbone}"\nadapter.user.kind ='
        ' "houlsby"\ntrain.epochs = 100000\n',
        "utf-8",
    )
    command = [sys.executable, "-m", "swaprec", "train", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("epoch 2/" in line for line in process.stderr), "it ended before it trained"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in said
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_proxy_does_not_stand_before_a_service_on_this_machine(url: str) -> None:
    proxies = dict.fromkeys(
        ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9"
    )
    done = swaprec("recommend", "nowhere", "i1", "--url", url, **proxies, NO_PROXY="", no_proxy="")
    assert done.returncode == REFUSED, done.stderr
