from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import tiny_backbone, tiny_contents
from training.batches import batches, cut_windows
from training.captured import CapturedSteps, step_arrays, weighted_loss
from training.loop import CANDIDATES, predict
from training.losses import LOSSES
from training.state_cache import item_states
from training.subject import Subject
from transrec.adapters import Adapter, AdapterSpec
from transrec.gpu import GPU_FAST


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("loss", ["bce", "cpc"])
@pytest.mark.parametrize(
    "item", [{"kind": "houlsby"}, {"kind": "lora", "layers": [1]}, {"kind": "side"}], ids=str
)
def test_a_padded_step_has_the_loss_and_the_gradients_of_the_trainers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: dict[str, Any], loss: str, pooling: Any
) -> None:
    backbone = tiny_backbone(pooling=pooling)
    adapter = Adapter.create(AdapterSpec.parse({"item": item}), backbone.shape, seed=0)
    states = item_states(
        backbone, tiny_contents(30), adapter.item, tmp_path, keep="float32", dtype="float32"
    )
    subject = Subject(
        backbone, adapter, states, nn.ModuleDict({"adapter": adapter}), {"adapter": 1e-3}
    )
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 30, size) for size in (2, 5, 9, 3)]
    windows = cut_windows(sequences, backbone.config.max_history, "last")
    batch = next(iter(batches(windows, sequences, 30, 4, rng, CANDIDATES[loss])))
    for switch in ("0", "1"):  # on a CPU nothing is recorded
        monkeypatch.setenv(GPU_FAST, switch)
        assert not CapturedSteps.fits(subject, loss)

    arrays = step_arrays(subject, batch, loss)
    whole = [torch.from_numpy(array) for array in arrays.whole]
    found = []
    for value in (
        weighted_loss(subject, whole, torch.from_numpy(arrays.weights), reduced=False),
        LOSSES[loss](predict(subject, batch, torch.zeros(30))),
    ):
        adapter.zero_grad()
        value.backward()
        gradients = [one.grad.clone() for one in adapter.parameters() if one.grad is not None]
        found.append([value.detach(), *gradients])
    assert len(found[0]) == len(found[1]) > 4
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
