from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from training.run_file import ConfigError, load_config

GOOD = """
stage = "adapt"
domain = "movies"
output = "runs/movies"
[data]
folder = "data"
[backbone]
folder = "backbone"
[adapter.item]
kind = "houlsby"
layers = 2
"""


def written(folder: Path, text: str) -> Path:
    (folder / "run.toml").write_text(text, "utf-8")
    return folder / "run.toml"


def test_a_file_is_read_with_paths_from_where_it_lies(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD))
    assert (config.data.folder, config.output) == (tmp_path / "data", tmp_path / "runs" / "movies")
    assert config.spec.item.layers == 2
    assert config.train.loss == "in_batch_debiased"


def test_a_byte_order_mark_before_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("\ufeff" + GOOD, "utf-8")
    config = load_config(tmp_path / "run.toml")
    (tmp_path / "config.json").write_text("\ufeff" + config.model_dump_json(), "utf-8")
    assert load_config(tmp_path / "config.json") == config


def test_columns_and_the_form_of_times_are_settings_of_the_data(tmp_path: Path) -> None:
    more = '[data]\ntime_format = "%d/%m/%Y"\nkeep_duplicates = true\ncolumns = { title = "Title" }'
    data = load_config(written(tmp_path, GOOD.replace("[data]", more))).data
    assert (data.columns, data.time_format, data.keep_duplicates) == (
        {"title": "Title"},
        "%d/%m/%Y",
        True,
    )
    with pytest.raises(
        ConfigError, match=r"data\.columns: title=Name, item_id=Name: .* each column once"
    ):
        load_config(written(tmp_path, GOOD), ['data.columns={title="Name", item_id="Name"}'])


def test_overrides_are_toml_values_or_plain_strings(tmp_path: Path) -> None:
    config = load_config(
        written(tmp_path, GOOD),
        ["train.epochs=3", "train.loss=bce", 'domain="books"', "data.where={column='genres'}"],
    )
    assert (config.train.epochs, config.train.loss, config.domain) == (3, "bce", "books")
    assert config.data.where is not None


def test_every_problem_is_named_at_once_a_misspelled_key_with_the_nearest(tmp_path: Path) -> None:
    wrong = GOOD.replace("[data]", "[data]\nfoldr = 1\nmin_interactions = 1").replace(
        '"houlsby"', '"hulsby"'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, wrong + "[train]\nepoch = 3\nlr = -1\n[unheard]\n"))
    text = str(caught.value)
    assert "data.foldr: unknown key, did you mean folder?" in text
    assert "train.epoch: unknown key, did you mean epochs?" in text
    for part in ("data.min_interactions", "train.lr", "unheard", "adapter.item.kind", "'hulsby'"):
        assert part in text
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stage =", "not TOML"),
        (GOOD.replace('folder = "backbone"', ""), "stage adapt needs the folder"),
        (GOOD.replace('"adapt"', '"pretrain"'), "stage pretrain needs the name"),
    ],
)
def test_a_file_that_cannot_run_says_why(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(written(tmp_path, text))


def test_a_missing_file_and_a_broken_override_are_plain_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="expected key=value"):
        load_config(written(tmp_path, GOOD), ["train.epochs"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["train=3", "train.epochs=3"], "train was set to a single value before"),
        (["adapter=3"], "adapter: expected a table of settings, got 3"),
        (["data=3"], "data: expected a table of settings, got 3"),
        (["data.text='{title'"], "is no template"),
        (["data.text='{}'"], "expected plain column names"),
        (["data.text='{title.upper}'"], "expected plain column names"),
        (["data.text='title'"], "names no column"),
        (["train.lr=inf"], "finite"),
        (["backbone.heads=3"], "width 64 cannot be shared by 3 heads"),
        (["seed=-1"], "seed"),
        (["output=''"], "output: expected a folder, got nothing"),
    ],
)
def test_values_that_no_run_can_use_are_refused_before_it_starts(
    tmp_path: Path, overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(written(tmp_path, GOOD), overrides)


def test_what_is_no_file_of_text_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_the_home_of_nobody_is_left_to_be_reported_as_missing(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD), ["data.folder=~nobody-of-this-name/x"])
    assert "~nobody-of-this-name" in str(config.data.folder)


def test_every_packaged_configuration_is_a_run() -> None:
    folder = Path(str(resources.files("training").joinpath("configs")))
    found = [path for path in sorted(folder.rglob("*.toml")) if path.parent.name != "experiments"]
    assert len(found) >= 5
    assert {load_config(path).stage for path in found} == {"pretrain", "adapt"}
