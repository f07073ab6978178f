from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.tiny import tiny_adapter, tiny_backbone
from transrec.model import encode_users
from transrec.seam import unchanged
from transrec.user_encoder import UserEncoder, UserShape
from transrec.window import pad_left


def test_it_has_100864_parameters_at_width_64_and_history_20() -> None:
    assert sum(p.numel() for p in UserEncoder(UserShape()).parameters()) == 100_864


def test_a_later_item_changes_no_earlier_output() -> None:
    backbone = tiny_backbone()
    adapt = tiny_adapter(backbone).user
    encoder = backbone.model.user_encoder
    mask = torch.ones(1, 6, dtype=torch.bool)
    vectors = torch.randn(1, 6, 16)
    changed = vectors.clone()
    changed[0, 4:] = torch.randn(2, 16)
    before = encoder(vectors, mask, adapt)
    after = encoder(changed, mask, adapt)
    assert torch.equal(before[0, :4], after[0, :4])
    assert not torch.allclose(before[0, 4:], after[0, 4:], atol=1e-3)


def test_what_stands_in_the_padding_changes_nothing() -> None:
    encoder = tiny_backbone().model.user_encoder
    mask = torch.tensor([[False, False, True, True, True, True]])
    vectors = torch.randn(1, 6, 16)
    other = vectors.clone()
    other[0, :2] = 100.0
    assert torch.allclose(encoder(vectors, mask)[0, 2:], encoder(other, mask)[0, 2:], atol=1e-6)


def test_the_last_position_alone_equals_the_last_of_all() -> None:
    encoder = tiny_backbone().model.user_encoder
    vectors = torch.randn(3, 6, 16)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, :4] = False
    assert torch.allclose(
        encoder(vectors, mask, last_only=True), encoder(vectors, mask)[:, -1], atol=1e-6
    )


def test_one_head_written_out_by_hand_gives_the_same_block() -> None:
    encoder = UserEncoder(UserShape(width=4, history=3, heads=1, blocks=1)).eval()
    block: Any = encoder.blocks[0]
    x = torch.nn.functional.layer_norm(
        torch.randn(1, 3, 4) + encoder.position.weight, (4,), eps=1e-6
    )
    q, k, v = (linear(x)[0] for linear in (block.query, block.key, block.value))
    rows = []
    for t in range(3):
        weights = torch.softmax(torch.stack([q[t] @ k[s] for s in range(t + 1)]) / 2.0, 0)
        rows.append(sum(weights[s] * v[s] for s in range(t + 1)))
    a = block.attention_norm(x + block.out(torch.stack(rows)).unsqueeze(0))
    expected = block.ffn_norm(a + block.ffn_out(torch.relu(block.ffn_in(a))))
    mask = torch.zeros(1, 1, 3, 3).masked_fill(~torch.ones(3, 3, dtype=torch.bool).tril(), -1e9)
    assert torch.allclose(block(x, mask, 0, unchanged), expected, atol=1e-6)


def test_a_long_history_keeps_its_newest_items_and_a_short_one_sits_at_the_end() -> None:
    rows, mask = pad_left([np.arange(1, 9), np.array([5]), np.array([], dtype=np.int64)], 4)
    assert rows.tolist() == [[5, 6, 7, 8], [0, 0, 0, 5], [0, 0, 0, 0]]
    assert mask.sum(1).tolist() == [4, 1, 0]


def test_users_encoded_together_equal_users_encoded_alone() -> None:
    backbone = tiny_backbone()
    adapt = tiny_adapter(backbone).user
    rng = np.random.default_rng(0)
    items = rng.standard_normal((30, 16)).astype(np.float32)
    histories = [rng.integers(0, 30, size) for size in (1, 4, 9, 0)]
    together = encode_users(backbone.model.user_encoder, histories, items, adapt)
    for row, history in enumerate(histories):
        alone = encode_users(backbone.model.user_encoder, [history], items, adapt)
        assert np.allclose(together[row], alone[0], atol=1e-6)
    assert np.isfinite(together).all()
