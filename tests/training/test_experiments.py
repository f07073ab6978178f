"""Experiments as files: what they become, and what is wrong with them, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.experiments import load_experiment
from training.names import packaged
from training.report.rows import Row, baselines, own_baselines
from training.run_file import ConfigError

FILE = """
title = "Kinds"
seeds = [0, 1]
skip = [{ source = "far", method = "full" }, { source = "far", method = "scratch" }]
[base]
stage = "adapt"
domain = "walk"
[base.data]
folder = "log"
images = "log/images.zip"
[base.backbone]
encoder = "some/bert"
image_encoder = "some/vit"
[base.train]
epochs = 3
[sources.near.data]
folder = "near"
[sources.far]
data = { folder = "far" }
[sources.unused]
data = { folder = "nowhere" }
[axes.source]
near = { source = "near" }
far = { source = "far", seeds = [5] }
[axes.method]
houlsby = { adapter = { item = { kind = "houlsby" } } }
full = { stage = "finetune", train = { lr = 1e-4 } }
scratch = { stage = "pretrain", backbone = { from_scratch = true } }
ids = { stage = "ids", data = { images = false } }
"""


def write(folder: Path, text: str = FILE) -> Path:
    path = folder / "kinds.toml"
    path.write_text(text, "utf-8")
    return path


def test_every_combination_but_the_skipped_ones_is_a_run_a_seed(tmp_path: Path) -> None:
    plan = load_experiment(write(tmp_path), tmp_path / "data", tmp_path / "out")
    assert [run.name for run in plan.runs] == [
        *(
            f"near-{method}-s{seed}"
            for method in ("houlsby", "full", "scratch", "ids")
            for seed in (0, 1)
        ),
        "far-houlsby-s5",
        "far-ids-s5",
    ]
    assert list(plan.sources) == ["near", "far"]
    houlsby = plan.runs[1]
    full = plan.runs[2]
    scratch = plan.runs[4]
    ids = plan.runs[6]
    assert (houlsby.config.stage, houlsby.config.seed, houlsby.config.train.epochs) == (
        "adapt",
        1,
        3,
    )
    assert houlsby.config.backbone.folder == tmp_path / "out" / "sources" / "near" / "backbone"
    assert houlsby.config.data.folder == tmp_path / "data" / "log"
    assert (full.config.stage, full.config.train.lr, full.config.train.epochs) == (
        "finetune",
        1e-4,
        3,
    )
    assert (
        scratch.source,
        scratch.config.backbone.encoder,
        scratch.config.backbone.from_scratch,
    ) == (
        None,
        "some/bert",
        True,
    )
    assert (ids.source, ids.config.backbone.encoder, ids.config.data.images) == (None, None, None)
    source = plan.sources["far"].config
    assert (source.stage, source.data.folder, source.output) == (
        "pretrain",
        tmp_path / "data" / "far",
        tmp_path / "out" / "sources" / "far",
    )


def test_overrides_change_the_file_and_only_keeps_choices(tmp_path: Path) -> None:
    plan = load_experiment(
        write(tmp_path),
        tmp_path,
        tmp_path / "out",
        ["base.train.epochs=1", "seeds=[7]"],
        {"method": ["full"]},
    )
    assert [(run.name, run.config.train.epochs) for run in plan.runs] == [("near-full-s7", 1)]
    assert list(plan.sources) == ["near"]


def test_what_is_wrong_with_any_run_is_reported_once_and_all_at_once(tmp_path: Path) -> None:
    text = FILE.replace("epochs = 3", "epochs = 0").replace(
        'source = "far", seeds', 'source = "fra", seeds'
    )
    with pytest.raises(ConfigError) as caught:
        load_experiment(
            write(tmp_path, text.replace("lr = 1e-4", "lrate = 1e-4")), tmp_path, tmp_path / "out"
        )
    problems = "\n".join(caught.value.problems)
    assert problems.count("near-houlsby-s0: train.epochs") == 1
    assert "near-houlsby-s1" not in problems
    assert "train.lrate: unknown key" in problems
    assert "far-houlsby-s5: source 'fra' is none of near, far, unused" in problems


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("titel = 1\n[axes.a.b]", "unknown keys titel: expected"),
        ("[base]\nstage = 1", "expected at least one axis"),
        ("[axes.a.b]\n[search]\nkeys = {}", "expected ranges of whole numbers"),
        ('[axes.a.b]\n[search]\nkeys = { "x.y" = [4, 2] }', "expected ranges of whole numbers"),
        ("no toml", "not TOML"),
    ],
)
def test_a_file_that_is_no_experiment_says_why(tmp_path: Path, text: str, says: str) -> None:
    raw = (
        text
        if says == "not TOML" or "[base]" in text
        else f'{text}\nstage = "ids"\ndata = {{ folder = "x" }}'
    )
    with pytest.raises(ConfigError, match=says):
        load_experiment(write(tmp_path, raw), tmp_path, tmp_path / "out")


def test_an_unknown_choice_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="method=lora: expected some of houlsby, full, scratch, ids"
    ):
        load_experiment(write(tmp_path), tmp_path, tmp_path / "out", (), {"method": ["lora"]})


def test_a_file_that_is_not_there_names_the_packaged_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="packaged are 1-text"):
        load_experiment(tmp_path / "nope.toml", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", list(packaged()))
def test_every_packaged_experiment_is_one(name: str, tmp_path: Path) -> None:
    plan = load_experiment(packaged()[name], tmp_path, tmp_path / "out")
    assert plan.runs
    assert plan.title
    assert plan.question
    assert len({run.name for run in plan.runs}) == len(plan.runs)


def test_a_baseline_that_differs_from_row_to_row_is_shown_of_each_and_never_as_one_for_all() -> (
    None
):
    def row(name: str, none: float) -> Row:
        tests = {"none": none, "popularity": 0.1}
        measured = {
            key: {"hr": hr, "hr_low": hr - 0.01, "hr_high": hr + 0.01} for key, hr in tests.items()
        }
        return Row("", name, [{"baselines": measured}])

    rows = [row("near", 0.2), row("far", 0.05)]
    assert set(baselines(rows)) == {"popularity"}
    assert {name: hr for name, (hr, _, _) in own_baselines(rows).items()} == {
        "none of near": 0.2,
        "none of far": 0.05,
    }
    assert own_baselines(rows[:1]) == {}
