"""Seconds a step of training against the scheme of the paper's program: `python -m
benchmarks.train`.

Same model (houlsby in every layer of a text encoder and in the user encoder), same batches of 32
users, same loss (BCE with one negative). Their scheme encodes all 2 (L + 1) items of every user,
pads and repeats included, at 30 tokens. Ours encodes each distinct item of the batch once at its
length, from the cached output of the first layer's attention. Needs an encoder folder (`make demo`
fetches one) and a data set with a text.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import Batch, batches, cut_windows
from training.config import DataConfig
from training.data import Dataset, load_dataset
from training.loop import predict
from training.losses import LOSSES
from training.state_cache import item_states
from training.subject import Subject
from transrec.adapters import Adapter, AdapterSpec
from transrec.backbone import Backbone
from transrec.text_encoder import Tokens

USERS = 32
TOKENS = 30
HOULSBY = {"item": {"kind": "houlsby"}, "user": {"kind": "houlsby"}}
SIDE = {"item": {"kind": "side"}, "user": {"kind": "houlsby"}}
TARGETS = {"amazon_scientific": 8.0, "mind_small": 2.2}


class EveryOccurrence:
    """Their scheme: item vectors at every place of every user's row,
    by whole forwards over padded texts.
    """

    def __init__(self, subject: Subject, dataset: Dataset) -> None:
        self.subject = subject
        rows = subject.backbone.tokenize(dataset.texts)
        device = subject.backbone.device
        self.mask = torch.tensor(
            [[place < len(row) for place in range(TOKENS)] for row in rows], device=device
        )
        self.ids = torch.tensor([row + [0] * (TOKENS - len(row)) for row in rows], device=device)

    def loss(self, batch: Batch) -> Tensor:
        """Return the BCE of a batch."""
        backbone = self.subject.backbone
        adapter = self.subject.adapter
        assert adapter is not None  # noqa: S101 - it is what trains
        negatives = np.pad(batch.negatives, ((0, 0), (0, 1)))  # as many as there are positives
        places = batch.distinct[np.stack([batch.windows, negatives], 1)].reshape(
            -1
        )  # [B * 2 * (L + 1)]
        rows = torch.from_numpy(places).to(backbone.device)
        pooled = backbone.model.item_encoder(Tokens(self.ids[rows], self.mask[rows]), adapter.item)
        vectors = backbone.model.project(pooled, adapter.item).view(
            len(batch.windows), 2, -1, backbone.config.width
        )
        items = vectors[:, 0]
        others = vectors[:, 1, :-1]
        real = torch.from_numpy(batch.real).to(backbone.device)
        seen = real[:, :-1]
        users = backbone.model.user_encoder(items[:, :-1] * seen.unsqueeze(-1), seen, adapter.user)
        asked = seen & real[:, 1:]
        positive, negative = ((users * other).sum(-1)[asked] for other in (items[:, 1:], others))
        return F.softplus(-positive).mean() + F.softplus(negative).mean()

    def tokens(self, batch: Batch) -> int:
        """Tokens that the encoder sees in a step."""
        return 2 * batch.windows.size * TOKENS


class EachOnce:
    """Ours: each distinct item once, from the cached prefix."""

    def __init__(self, subject: Subject, dataset: Dataset) -> None:
        self.subject = subject
        self.popularity = torch.zeros(len(dataset.contents))
        self.lengths = np.array([len(row) for row in subject.backbone.tokenize(dataset.texts)])

    def loss(self, batch: Batch) -> Tensor:
        """Return the BCE of a batch."""
        return LOSSES["bce"](predict(self.subject, batch, self.popularity))

    def tokens(self, batch: Batch) -> int:
        """Tokens that the encoder sees in a step."""
        return int(self.lengths[batch.distinct].sum())


def subject_of(
    backbone: Backbone, dataset: Dataset, spec: Mapping[str, Any], cache: Path, keep: str
) -> Subject:
    """Make a fresh adapter of a seed and what it trains on."""
    adapter = Adapter.create(AdapterSpec.parse(spec), backbone.shape, seed=0).to(backbone.device)
    states = item_states(
        backbone, dataset.contents, adapter.item, cache, keep=keep, dtype="float32"
    )
    return Subject(
        backbone, adapter, states, nn.ModuleDict({"adapter": adapter}), {"adapter": 1e-3}
    )


def step(loss: Callable[[Batch], Tensor], optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """Do one step; return its loss."""
    optimizer.zero_grad(set_to_none=True)
    value = loss(batch)
    value.backward()
    optimizer.step()
    return float(value.detach())


def first_batches(dataset: Dataset, history: int, count: int) -> list[Batch]:
    """Cut the first batches of an epoch."""
    split = dataset.split()
    windows = cut_windows(split.train, history, "last")
    order = batches(
        windows, split.train, len(dataset.contents), USERS, np.random.default_rng(0), "negatives"
    )
    return list(islice(order, count))


def main() -> None:
    """Measure, and print the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--encoder", default=".swaprec/demo/minilm", help="folder of a BERT or RoBERTa checkpoint"
    )
    shared = Path(os.environ.get("SWAPREC_TEST_DATA", "."))
    parser.add_argument(
        "--data", type=Path, default=shared / "amazon_scientific", help="canonical folder"
    )
    parser.add_argument("--steps", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    backbone = Backbone.from_encoder(given.encoder)
    dataset = load_dataset(DataConfig(folder=given.data))
    chosen = first_batches(dataset, backbone.config.max_history, given.steps)
    with tempfile.TemporaryDirectory() as folder:
        subject = subject_of(backbone, dataset, HOULSBY, Path(folder), "float16")
        tower = subject_of(backbone, dataset, SIDE, Path(folder), "float16")
        everything = EveryOccurrence(subject, dataset)
        once = EachOnce(subject, dataset)
        side = EachOnce(tower, dataset)
        optimizers = [
            torch.optim.Adam(one.trained.parameters(), lr=1e-4) for one in (subject, tower)
        ]
        ratios = []
        towers = []
        for number, batch in enumerate(chosen):
            times = []
            runs = ((everything, optimizers[0]), (once, optimizers[0]), (side, optimizers[1]))
            for scheme, optimizer in runs:
                started = time.perf_counter()
                step(scheme.loss, optimizer, batch)
                times.append(time.perf_counter() - started)
            ratios.append(times[0] / times[1])
            towers.append(times[1] / times[2])
            tokens = everything.tokens(batch), once.tokens(batch)
            print(
                f"step {number + 1}: {times[0]:.1f} s against {times[1]:.2f} s, {ratios[-1]:.1f}"
                f" times (encoder tokens {tokens[0]} against {tokens[1]}); side"
                f" {1000 * times[2]:.0f} ms"
            )
    value = round(statistics.median(ratios), 1)
    target = TARGETS.get(given.data.name, TARGETS["amazon_scientific"])
    print(f"side against houlsby in this harness: {statistics.median(towers):.0f} times")
    bar = (
        f"a houlsby step on {given.data.name} against the paper's scheme ({min(ratios):.1f} -"
        f" {max(ratios):.1f})"
    )
    print(json.dumps({"bar": bar, "value": value, "target": target, "holds": value >= target}))
    sys.exit(0 if value >= target else 1)


if __name__ == "__main__":
    main()
