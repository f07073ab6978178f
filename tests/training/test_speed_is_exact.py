"""What the trainer leaves out changes nothing:
against encoding every occurrence, padded, from the first layer on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.train import EachOnce, EveryOccurrence, first_batches, step, subject_of
from tests.tiny import tiny_backbone
from tests.training.conftest import tiny_log
from training.config import DataConfig
from training.data import load_dataset
from training.subject import Subject
from transrec.item_encoder import Pooling

HOULSBY = {"item": {"kind": "houlsby", "hidden": 8}, "user": {"kind": "houlsby", "hidden": 4}}


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_loss_its_gradients_and_fifty_steps_are_those_of_the_papers_scheme(
    tmp_path: Path, pooling: Pooling
) -> None:
    backbone = tiny_backbone(pooling=pooling)
    backbone.config = replace(backbone.config, max_tokens=30)
    dataset = load_dataset(DataConfig(folder=tiny_log(tmp_path / "log")))
    chosen = first_batches(dataset, backbone.config.max_history, 2)
    losses: list[list[float]] = []
    gradients: list[dict[str, torch.Tensor]] = []
    for scheme in (EveryOccurrence, EachOnce):
        subject = subject_of(backbone, dataset, HOULSBY, tmp_path / "cache", "float32")
        run = scheme(subject, dataset)
        run.loss(chosen[0]).backward()
        gradients.append(
            {
                name: weight.grad.clone()
                for name, weight in named(subject)
                if weight.grad is not None
            }
        )
        optimizer = torch.optim.Adam(subject.trained.parameters(), lr=1e-3)
        losses.append([step(run.loss, optimizer, chosen[number % 2]) for number in range(50)])
    theirs, own = gradients
    assert set(theirs) == set(own) == {name for name, _ in named(subject)}
    for name, gradient in theirs.items():
        assert (own[name] - gradient).abs().max() <= 1e-5 * max(
            float(gradient.abs().max()), 1e-6
        ), name
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < losses[0][0]


def named(subject: Subject) -> list[tuple[str, torch.nn.Parameter]]:
    return list(subject.trained.named_parameters())
