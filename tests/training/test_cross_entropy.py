from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training import cross_entropy as module
from training.cross_entropy import cross_entropy


@pytest.mark.parametrize("block", [1, 20, 1 << 20])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradients_are_those_of_torch_whatever_the_block(
    monkeypatch: pytest.MonkeyPatch, block: int, masked: bool
) -> None:
    monkeypatch.setattr(module, "BLOCK_SCORES", block)
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(11, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    items = torch.randn(7, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(7, (11,), generator=generator)
    bias = torch.randn(7, dtype=torch.float64, generator=generator)
    hidden = torch.rand(3, 7, generator=generator) < 0.4
    line = torch.randint(3, (11,), generator=generator)
    scores = users @ items.T
    more = {}
    if masked:
        more = {"bias": bias, "hidden": hidden, "line": line}
        scores = (scores + bias).masked_fill(
            hidden[line].scatter(1, targets[:, None], value=False), -torch.inf
        )
    expected = F.cross_entropy(scores, targets)
    wanted = torch.autograd.grad(3 * expected, [users, items])
    found = cross_entropy(users, items, targets, **more)
    gradients = torch.autograd.grad(3 * found, [users, items])
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
