"""A run says at its start how much of the texts the
tokenizer does not know, and its result holds it.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from tests.tiny import tiny_backbone
from tests.training.conftest import tiny_log
from training.progress import Reporter
from training.run import run
from training.run_file import parse_config


@pytest.mark.parametrize(
    ("thai", "share", "says"), [(True, 1.0, "warning: 100.0% of the tokens"), (False, 0.0, "0.0%")]
)
def test_the_share_of_unknown_tokens_is_reported_before_the_training_and_in_its_result(
    tmp_path: Path, thai: bool, share: float, says: str
) -> None:
    folder = tiny_log(tmp_path / "log")
    if thai:
        items = pl.read_parquet(folder / "items.parquet")
        titles = pl.Series(
            "title", [f"เรื่อง {chr(0x0E01 + number)}" for number in range(items.height)]
        )
        items.with_columns(titles).write_parquet(folder / "items.parquet")
    tiny_backbone(tmp_path / "backbone")
    raw = {
        "stage": "adapt",
        "domain": "walk",
        "output": str(tmp_path / "run"),
        "data": {"folder": str(folder)},
        "backbone": {"folder": str(tmp_path / "backbone")},
        "adapter": {"item": {"kind": "bitfit"}, "user": {"kind": "none"}},
        "train": {"epochs": 1},
    }
    console = Console(record=True, width=300)
    run(parse_config(raw), Reporter("walk", console))
    printed = console.export_text()
    assert says in printed
    assert printed.index(says) < printed.index("epoch 1/1")
    assert (
        json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))["unknown_tokens"] == share
    )
