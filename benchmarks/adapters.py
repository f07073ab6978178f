"""What each kind of adapter costs in the forward: `python -m benchmarks.adapters`.

A full batch, of one domain or of 32 domains mixed, against the same batch without an adapter: 4,096
tokens of the item encoder, 64 rows of the user encoder, each in the form that serves. Random
weights of real sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from transrec.adapters import (
    KINDS,
    Adapt,
    Adapter,
    AdapterBank,
    AdapterShape,
    AdapterSpec,
    SideAdapter,
    gathers,
    stack,
)
from transrec.backbone_config import BackboneConfig, adapter_shape, build
from transrec.devices import TORCH_DTYPES, resolve_dtype
from transrec.image_encoder import ImageShape
from transrec.images import Preprocessing
from transrec.text_encoder import TextShape, Tokens
from transrec.user_encoder import UserShape

ROWS = 64
TOKENS = 16
DOMAINS = 32
ITEM_ROWS = 256  # of 16 tokens: a full batch
TARGETS = {"item": 1.15, "user": 1.25}
USER = UserShape()
SIZES = {
    "minilm": BackboneConfig(TextShape("bert", 6, 384, 12, 1536, 30522, 512, 2, 1e-12, 0), USER),
    "bert-base": BackboneConfig(
        TextShape("bert", 12, 768, 12, 3072, 30522, 512, 2, 1e-12, 0), USER
    ),
    "vit-base": BackboneConfig(
        None,
        USER,
        image=ImageShape(12, 768, 12, 3072, 16, 1, 1e-12, Preprocessing(size=224, resize=224)),
    ),
}

Forward = Callable[[], object]


@dataclass(frozen=True, slots=True)
class SideBenchmark:
    """One encoder, and how it runs some rows of the batch with an adapter."""

    name: str
    rows: int
    encoder: nn.Module
    run: Callable[[slice, Adapt | None], Tensor]
    shape: AdapterShape


def item_side(config: BackboneConfig, rows: int, dtype: torch.dtype, device: str) -> SideBenchmark:
    """Make the item encoder with random inputs."""
    model = build(config).requires_grad_(requires_grad=False).eval().to(device)
    encoder = model.item_encoder.to(dtype)
    if config.image is not None:
        size = config.image.preprocessing.size
        pixels = torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8, device=device)
        return SideBenchmark(
            "item",
            rows,
            encoder,
            lambda chosen, adapt: encoder(pixels[chosen], adapt),
            adapter_shape(config),
        )
    ids = torch.randint(1000, 20_000, (rows, TOKENS), device=device)
    return SideBenchmark(
        "item",
        rows,
        encoder,
        lambda chosen, adapt: encoder(Tokens(ids[chosen]), adapt),
        adapter_shape(config),
    )


def user_side(config: BackboneConfig, device: str) -> SideBenchmark:
    """Make the user encoder on its serving path: float32, whole windows, the last position only."""
    encoder = build(config).user_encoder.requires_grad_(requires_grad=False).eval().to(device)
    vectors = torch.randn(ROWS, USER.history, USER.width, device=device)
    mask = torch.ones(ROWS, USER.history, dtype=torch.bool, device=device)

    def run(rows: slice, adapt: Adapt | None) -> Tensor:
        found: Tensor = encoder(vectors[rows], mask[rows], adapt, last_only=True)
        return found

    return SideBenchmark("user", ROWS, encoder, run, adapter_shape(config))


def forwards(
    side: SideBenchmark, kind: str, device: str, dtype: torch.dtype
) -> Iterator[tuple[int, Forward]]:
    """Yield the whole batch's forward with an adapter of one domain, and with those of 32."""
    for domains in (1, DOMAINS):
        adapters = [_adapter(side, kind, seed).to(device) for seed in range(domains)]
        if gathers(adapters[0]) and domains > 1:
            shape = side.shape.user if side.name == "user" else side.shape.items[0]
            bank = stack(adapters, shape).to(device, dtype)
            yield (
                domains,
                partial(
                    _mixed, side, bank, [row * domains // side.rows for row in range(side.rows)]
                ),
            )
            continue
        serving = [adapter.for_serving(side.encoder) for adapter in adapters]  # type: ignore[arg-type]
        share = side.rows // domains
        parts = [
            (slice(place * share, (place + 1) * share), one) for place, one in enumerate(serving)
        ]
        yield domains, lambda parts=parts: [side.run(rows, one) for rows, one in parts]  # type: ignore[misc]


def _mixed(side: SideBenchmark, bank: AdapterBank, slots: list[int]) -> Tensor:
    """Run rows of many domains as the service does,
    which lays them out in the order of their adapters.
    """
    _, adapt = bank.arrange(slots) if side.name == "user" else bank.blocks(slots)
    return side.run(slice(None), adapt)


def _adapter(side: SideBenchmark, kind: str, seed: int) -> SideAdapter:
    adapter = Adapter.create(AdapterSpec.parse({side.name: {"kind": kind}}), side.shape, seed)
    found = getattr(adapter, side.name).requires_grad_(requires_grad=False).eval()
    assert isinstance(found, SideAdapter)  # noqa: S101 - these sizes are no pairs
    return found


@torch.inference_mode()
def measure(
    all_forwards: Mapping[str, Forward], rounds: int, device: str
) -> dict[str, list[float]]:
    """Run everything once a round, in turns; return seconds by name."""
    seconds: dict[str, list[float]] = {name: [] for name in all_forwards}
    for turn in range(rounds + 2):
        for name, forward in all_forwards.items():
            started = time.perf_counter()
            forward()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn > 1:  # two rounds to warm up
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(seconds: Mapping[str, list[float]], name: str) -> list[float]:
    """One ratio a round, against no adapter in the same round."""
    return [one / plain for one, plain in zip(seconds[name], seconds["none"], strict=True)]


def compare(
    side: SideBenchmark, rounds: int, device: str, dtype: torch.dtype
) -> dict[str, list[float]]:
    """Measure every kind that this side can have; ratios by `kind/domains`."""
    everything: dict[str, Forward] = {"none": lambda: side.run(slice(None), None)}
    other_side = {
        name
        for name, kind in KINDS.items()
        if (kind.item_only if side.name == "user" else kind.user_only)
    }
    kinds = [name for name in KINDS if name not in {"none", *other_side}]
    for kind in kinds:
        for domains, forward in forwards(side, kind, device, dtype):
            everything[f"{kind}/{domains}"] = forward
    seconds = measure(everything, rounds, device)
    plain = 1000 * statistics.median(seconds["none"])
    print(f"{side.name} encoder, {side.rows} rows, without an adapter: {plain:.2f} ms a batch")
    found = {name: ratios(seconds, name) for name in everything if name != "none"}
    for name, values in found.items():
        low = statistics.quantiles(values, n=10)[0]
        high = statistics.quantiles(values, n=10)[-1]
        print(f"  {name:22} {statistics.median(values):6.3f}  ({low:.3f} - {high:.3f})")
    return found


def main() -> None:
    """Measure both encoders and print the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--like", choices=SIZES, default="bert-base")
    parser.add_argument(
        "--dtype", default="auto", help="of the item encoder: auto, float32 or bfloat16"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--item-rows", type=int, default=ITEM_ROWS, help="of 16 tokens, or images")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = TORCH_DTYPES[resolve_dtype(given.dtype, given.device)]
    config = SIZES[given.like]
    where = torch.cuda.get_device_name() if given.device != "cpu" else "CPU, one thread"
    print(f"{given.like}, item encoder in {dtype}, user encoder in float32, on {where}")
    item = compare(
        item_side(config, given.item_rows, dtype, given.device), given.rounds, given.device, dtype
    )
    user = compare(user_side(config, given.device), 4 * given.rounds, given.device, torch.float32)
    value = {
        name: round(statistics.median(found[f"houlsby/{DOMAINS}"]), 3)
        for name, found in (("item", item), ("user", user))
    }
    holds = all(value[name] <= target for name, target in TARGETS.items())
    bar = f"a batch of {DOMAINS} houlsby domains against none, {given.like}"
    print(json.dumps({"bar": bar, "value": value, "target": TARGETS, "holds": holds}))
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
