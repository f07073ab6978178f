from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service.settings import Settings
from swaprec import invented_news
from swaprec.cli import app
from swaprec.client import Client
from swaprec.demo import FILMS, NEWS, TARGETS, Recipe
from swaprec.errors import Stop
from swaprec.seed import MARK, seed
from tests.checkpoints import bert_checkpoint
from tests.service.conftest import running
from tests.swaprec.test_demo_data import without_network
from training.importers import canonical
from training.importers.tables import Tables

GENRES = ("Drama", "Comedy", "Action")


def console() -> Console:
    return Console(file=io.StringIO(), width=80, markup=False)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def small(folder: Path) -> Recipe:
    """The demo's own runs on a tiny encoder and few films, for one epoch."""
    items = pl.DataFrame(
        [(str(n), f"film {n}", 1990 + n % 9, GENRES[n % 3]) for n in range(90)],
        schema=["item_id", "title", "year", "genres"],
        orient="row",
    )
    log = pl.DataFrame(
        [
            (f"u{user}", str((user + 7 * step) % 90), step)
            for user in range(40)
            for step in range(30)
        ],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    )
    canonical.write(Tables(items, log), folder / FILMS)
    invented_news.write(folder / NEWS)
    checkpoint = folder / "encoder"
    if not checkpoint.is_dir():
        checkpoint.mkdir()
        bert_checkpoint(checkpoint)
    return Recipe(folder, checkpoint, ("train.epochs=1",))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Client]:
    with (
        running(Settings(data=tmp_path / "data", port=0)) as http,
        Client(str(http.base_url)) as client,
    ):
        yield client


@pytest.mark.slow
def test_an_empty_service_answers_the_readmes_first_request(empty: Client, tmp_path: Path) -> None:
    output = console()
    assert seed(empty, tmp_path / "data", tmp_path / "seed", output, small)
    assert {one["domain"] for one in empty.domains()} == set(TARGETS)
    answer = empty.recommend("adressa", ["n1", "n2"], k=5, include=["metadata"])
    assert answer["version"] == 1
    assert {item["metadata"]["origin"] for item in answer["items"]} == {"invented"}
    assert "invented" in empty.domain("adressa")["title"].lower()
    assert "answers from version none" in said(output)
    assert not (tmp_path / "seed" / MARK).exists()
    again = console()
    assert not seed(empty, tmp_path / "data", tmp_path / "seed", again, small)
    assert "nothing to do: there is" in said(again)


def test_where_a_domain_exists_nothing_is_done(client: Client, tmp_path: Path) -> None:
    client.put_domain("mine")
    output = console()
    assert not seed(client, tmp_path / "data", tmp_path / "seed", output)
    assert "nothing to do: there is mine" in said(output)
    assert not (tmp_path / "seed").exists()


def test_a_seed_that_was_interrupted_goes_on(client: Client, tmp_path: Path) -> None:
    client.put_domain("adressa")
    folder = tmp_path / "seed"
    folder.mkdir()
    (folder / MARK).touch()

    def reached(_: Path) -> Recipe:
        raise Stop("reached")

    with pytest.raises(Stop, match="reached"):
        seed(client, tmp_path / "data", folder, console(), reached)


def test_without_a_network_it_says_what_it_lacks_and_the_service_stays_up(
    empty: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_network(monkeypatch)
    with pytest.raises(Stop, match="nothing was seeded: pip cannot fetch") as stopped:
        seed(empty, tmp_path / "data", tmp_path / "seed", console())
    assert "the service answers, but it has no domain yet" in stopped.value.hint
    assert empty.domains() == []


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWAPREC_SEED", "0")
    done = CliRunner().invoke(app, ["seed", "--url", "http://127.0.0.1:9"])
    assert (done.exit_code, done.output.strip()) == (0, "seeding is off (SWAPREC_SEED=0)")
