"""What an experiment lacks is named before anything runs, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.conftest import tiny_log
from tests.training.test_experiments import write
from training.datasets import KNOWN, find_missing
from training.experiments import load_experiment
from training.importers import READERS
from training.names import FORMS, packaged
from training.run_file import parse_config


def test_every_missing_folder_of_all_runs_is_named_once_with_how_to_get_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    plan = load_experiment(
        packaged()["1-text"], data, tmp_path / "out", ["base.backbone.encoder=./no/such/minilm"]
    )
    runs = [(run.name, run.config) for run in [*plan.sources.values(), *plan.runs]]
    lines = find_missing(runs)
    assert len(lines) == 3
    films, encoder, instruments = lines
    assert films.startswith(
        f"{data.resolve() / 'ml_1m_posters'} is not there; sources/films_sasrec, "
    )
    assert "swaprec import movielens ml-1m" in films
    assert "need it: " in films
    assert f"swaprec import amazon FOLDER {data.resolve()}/amazon_instruments" in instruments
    assert encoder.startswith("no/such/minilm is not there")
    tiny_log(data / "ml_1m_posters")
    assert len(find_missing(runs)) == 2


def test_pictures_that_are_missing_from_a_folder_that_is_there_are_named(tmp_path: Path) -> None:
    plan = load_experiment(write(tmp_path), tmp_path, tmp_path / "out")
    assert [
        line.partition(" is not there")[0]
        for line in find_missing((r.name, r.config) for r in plan.runs)
    ] == [str(tmp_path.resolve() / "log")]
    tiny_log(tmp_path / "log")
    (line,) = find_missing((run.name, run.config) for run in plan.runs)
    assert line.startswith(f"{tmp_path.resolve() / 'log' / 'images.zip'} is not there")


@pytest.mark.parametrize("name", list(packaged()))
def test_every_data_set_of_a_packaged_experiment_is_explained_on_its_page(
    name: str, tmp_path: Path
) -> None:
    plan = load_experiment(packaged()[name], tmp_path, tmp_path / "out")
    folders = {run.config.data.folder.name for run in [*plan.sources.values(), *plan.runs]}
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text("utf-8")
    for folder in folders:
        assert folder in KNOWN
        assert f"| `{folder}` |" in page


def test_a_name_of_a_model_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    raw = {"stage": "pretrain", "output": str(tmp_path / "o"), "data": {"folder": str(tmp_path)}}
    config = parse_config(raw | {"backbone": {"encoder": "sentence-transformers/all-MiniLM-L6-v2"}})
    assert find_missing([("run", config)]) == []


def test_the_forms_that_a_shell_completes_are_those_that_are_read() -> None:
    assert tuple(READERS) == FORMS
