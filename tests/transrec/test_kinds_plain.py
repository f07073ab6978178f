"""Every kind against the plain form of what its paper says."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from tests.tiny import ITEM_ONLY, TINY_KINDS, tiny_adapter, tiny_backbone, tiny_spec
from tests.transrec.plain import Plain, gate, gelu
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.model import TransRec
from transrec.text_encoder import Tokens

USER_EPS = 1e-6


def side(adapter: Adapter, name: str) -> dict[str, Tensor]:
    own = {
        key.removeprefix(f"{name}."): t
        for key, t in adapter.to_tensors().items()
        if key.startswith(f"{name}.")
    }
    shared = adapter.to_tensors().get("item.rule")  # a compacter's rule is one for both sides
    return own if shared is None else {**own, "rule": shared}


def plain(weights: Mapping[str, Tensor], adapter: Adapter, name: str, eps: float) -> Plain:
    spec = getattr(adapter.spec, name)
    activation = gelu if name == "item" else torch.relu
    return Plain(
        weights, side(adapter, name), spec.kind, 2, 2, eps, activation, spec.alpha / spec.hidden
    )


def plain_item(backbone: Backbone, adapter: Adapter, ids: list[int]) -> Tensor:
    """The vector of one text."""
    model = backbone.model
    weights = {name: value.detach() for name, value in model.item_encoder.state_dict().items()}
    net = plain(weights, adapter, "item", 1e-12)
    x = [
        net.norm(
            "outside.norm",
            weights["word.weight"][i]
            + weights["position.weight"][t]
            + weights["token_type.weight"][0],
        )
        for t, i in enumerate(ids)
    ]
    if net.kind == "prompt":
        x = [*x, *net.adapter["tokens"]]
    return vector_of(net, model, x)


def plain_image(backbone: Backbone, adapter: Adapter, pixels: Tensor) -> Tensor:
    """The vector of one picture, `pixels [3, S, S]`."""
    weights = {
        name: value.detach() for name, value in backbone.model.item_encoder.state_dict().items()
    }
    net = plain(weights, adapter, "item", 1e-6)
    net.pre_norm = True
    normal = (pixels.float() / 255 - 0.5) / 0.5
    patches: list[torch.Tensor] = []
    for top in range(0, 16, 8):
        for left in range(0, 16, 8):
            patch = normal[:, top : top + 8, left : left + 8]
            seen = torch.stack([(kernel * patch).sum() for kernel in weights["patch.weight"]])
            patches.append(seen + weights["patch.bias"] + weights["position"][len(patches)])
    x = [weights["first"][0], *patches]
    if net.kind == "prompt":
        x = [*x, *net.adapter["tokens"]]
    return vector_of(net, backbone.model, x)


def vector_of(net: Plain, model: TransRec, x: list[Tensor]) -> Tensor:
    """From the input of the first block to the item vector."""
    states = net.run(x, lambda _t: range(len(x)))
    out = [net.norm("outside.norm", own) for own in states[-1]] if net.pre_norm else states[-1]
    if net.kind == "k_adapter":  # it reads the outputs of the layers
        out = net.k_chain([*states[1:], out], lambda _t: range(len(x)), 2, USER_EPS)
    vector = gelu(model.projection.weight @ out[0] + model.projection.bias)
    return vector if net.kind != "side" else vector + tower(net, [state[0] for state in states[1:]])


def tower(net: Plain, states: list[Tensor]) -> Tensor:
    a = net.adapter
    z = torch.zeros_like(states[0])
    for place, state in enumerate(states[-1::-2][::-1]):  # every second from the top
        share = gate(a["tower.gates"][place])
        level = f"tower.levels.{place}"
        mixed = share * state + (1 - share) * z
        inner = torch.relu(a[f"{level}.down.weight"] @ mixed + a[f"{level}.down.bias"])
        z = mixed + a[f"{level}.up.weight"] @ inner + a[f"{level}.up.bias"]
    return a["out.weight"] @ (a["tower.end.weight"] @ z + a["tower.end.bias"]) + a["out.bias"]


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_an_item_is_what_the_plain_form_says(kind: str) -> None:
    backbone = tiny_backbone()
    adapter = tiny_adapter(backbone, spec=tiny_spec(kind))
    ids = backbone.tokenize(["film the storm 7"])[0]
    with torch.inference_mode():
        pooled = backbone.model.item_encoder(Tokens(torch.tensor([ids])), adapter.item)
        found = backbone.model.project(pooled, adapter.item)[0]
        assert torch.allclose(found, plain_item(backbone, adapter, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_a_picture_is_what_the_plain_form_says(kind: str) -> None:
    backbone = tiny_backbone(modalities=("image",))
    adapter = tiny_adapter(backbone, spec=tiny_spec(kind))
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    with torch.inference_mode():
        found = backbone.model.project(
            backbone.model.item_encoder(pixels, adapter.item), adapter.item
        )[0]
        assert torch.allclose(
            found, plain_image(backbone, adapter, pixels[0]), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("kind", [kind for kind in TINY_KINDS if kind not in ITEM_ONLY])
def test_a_user_is_what_the_plain_form_says(kind: str) -> None:
    backbone = tiny_backbone()
    adapter = tiny_adapter(backbone, spec=tiny_spec(kind))
    encoder = backbone.model.user_encoder
    weights = {name: value.detach() for name, value in encoder.state_dict().items()}
    net = plain(weights, adapter, "user", USER_EPS)
    vectors = torch.randn(4, 16)

    def past(t: int) -> range:
        return range(t + 1)

    with torch.inference_mode():
        positions = weights["position.weight"] + net.whole("positions")
        x = [net.norm("outside.norm", v + positions[2 + t]) for t, v in enumerate(vectors)]
        states = net.run(x, past)
        out = net.k_chain(states, past, 2, USER_EPS) if kind == "k_adapter" else states[-1]
        padded = torch.cat([torch.zeros(2, 16), vectors]).unsqueeze(0)
        mask = torch.tensor([[False] * 2 + [True] * 4])
        found = encoder(padded, mask, adapter.user)[0, 2:]
        assert torch.allclose(found, torch.stack(out), atol=1e-5, rtol=1e-5)
