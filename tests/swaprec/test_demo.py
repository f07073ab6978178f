from __future__ import annotations

import io
import shutil
from pathlib import Path

from rich.console import Console

from swaprec.demo import SOURCE, TARGETS, demo_config, trained
from tests.swaprec.conftest import World
from tests.tiny import tiny_backbone
from tests.training.conftest import tiny_log
from training.config import RunConfig, parse_config


def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def short_run(folder: Path, log: Path, backbone: Path) -> RunConfig:
    return parse_config(
        {
            "stage": "adapt",
            "domain": "walk",
            "output": str(folder / "run"),
            "data": {"folder": str(log)},
            "backbone": {"folder": str(backbone)},
            "adapter": {"user": {"kind": "houlsby", "hidden": 4}},
            "train": {"epochs": 1},
        }
    )


def test_a_finished_run_is_taken_again(world: World, tmp_path: Path) -> None:
    config, told = short_run(tmp_path, world.log, world.backbone), console()
    first = trained(config, told)
    assert "trained before" not in said(told)
    assert trained(config, told) == first
    assert "walk: trained before" in said(told)


def test_a_run_is_done_again_when_its_data_or_its_backbone_changed(tmp_path: Path) -> None:
    log, backbone = tiny_log(tmp_path / "log"), tmp_path / "backbone"
    tiny_backbone(backbone)
    config = short_run(tmp_path, log, backbone)
    before = trained(config, console()).report
    tiny_log(log, seed=1)
    after_data, told = trained(config, console()).report, console()
    assert after_data["data"]["digest"] != before["data"]["digest"]
    shutil.rmtree(backbone)
    fingerprint = tiny_backbone(backbone, seed=1).fingerprint
    after_backbone = trained(config, told).report
    assert after_backbone["backbone"] == fingerprint != before["backbone"]
    assert "trained before" not in said(told)


def test_the_demos_configurations_meet_in_its_folder(tmp_path: Path) -> None:
    encoder = tmp_path / "minilm"
    encoder.mkdir()
    source = demo_config(SOURCE, tmp_path, encoder)
    assert (source.stage, source.backbone.encoder) == ("pretrain", str(encoder))
    for name in TARGETS:
        target = demo_config(name, tmp_path, encoder)
        assert (target.stage, target.domain) == ("adapt", name)
        assert target.backbone.folder == source.output / "backbone"
        assert target.data.folder == source.data.folder
