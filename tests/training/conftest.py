"""A small log with a pattern to learn, a checkpoint to learn it with, and a backbone that did."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.checkpoints import bert_checkpoint
from tests.tiny import tiny_contents, tiny_picture, tiny_texts
from tests.training.runs import pretrain
from training.importers import canonical
from training.importers.tables import Tables
from training.run import run
from transrec.seam import Modality

ITEMS = 40
USERS = 60


def tiny_log(folder: Path, seed: int = 0, modalities: Sequence[Modality] = ("text",)) -> Path:
    """Users walk through the catalog in small steps: the next item is near the last one.

    Where images are wanted they lie in `images.zip`, and the items have a column `image`; of a pair
    some items have one of the two only.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        place = int(rng.integers(ITEMS))
        for time in range(int(rng.integers(5, 14))):
            rows.append((f"u{user:03}", f"i{place}", time))
            place = (place + int(rng.integers(1, 4))) % ITEMS
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "title": tiny_texts(ITEMS)})
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    if "image" in modalities:
        contents = tiny_contents(ITEMS, modalities)
        if "text" in modalities:
            items = items.with_columns(pl.Series("title", [content.text for content in contents]))
        items = items.with_columns(
            pl.Series(
                "image",
                [
                    None if content.image is None else f"{n}.png"
                    for n, content in enumerate(contents)
                ],
            ),
        )
    canonical.write(Tables(items, log), folder)
    if "image" in modalities:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for number in range(ITEMS):
                archive.writestr(f"{number}.png", tiny_picture(number))
    return folder


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_checkpoint(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def backbone(log: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = pretrain(
        log,
        checkpoint,
        tmp_path_factory.mktemp("source") / "run",
        epochs=12,
        lr=3e-3,
        loss="full_softmax",
    )
    return run(config).artifact
