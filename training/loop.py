"""The loop: epochs over windows, validation over the whole catalog, the best weights kept, a checkpoint an epoch.

Everything random comes from the seed and the epoch, or from a generator whose state is in the checkpoint, so that a
resumed run gives the numbers of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.batches import Batch, Candidates, batches, cut_windows
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.data import Dataset, Split
from training.losses import LOSSES, Predictions
from training.progress import Reporter
from training.states import ItemStates
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.metrics import hit_rate, ndcg, rank_targets
from transrec.model import encode_users

CANDIDATES: dict[str, Candidates] = {
    "bce": "negatives",
    "cpc": "last_negative",
    "in_batch_debiased": "batch",
    "full_softmax": "catalog",
}
ENCODE_ITEMS = 2048

Weights = dict[str, Tensor]


class TrainingError(RuntimeError):
    """A run that cannot go on; says what happened and what is left to resume from."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained: the parts of the forward, the trained modules by name, and each one's learning rate."""

    backbone: Backbone
    adapter: Adapter | None
    states: ItemStates
    trained: nn.ModuleDict
    rates: dict[str, float]

    def item_vectors(self, rows: NDArray[np.int64]) -> Tensor:
        """Vectors [m, d] of distinct catalog rows, differentiable."""
        side = None if self.adapter is None else self.adapter.item
        return self.backbone.model.project(self.states.pooled(rows, side), side)

    def user_vectors(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """User vectors [B, L, d] at every position of `vectors [B, L, d]`."""
        side = None if self.adapter is None else self.adapter.user
        return self.backbone.model.user_encoder.forward(vectors, mask, side)

    def weights(self) -> Weights:
        """Return copies of everything that trains."""
        return {name: value.detach().clone() for name, value in self.trained.state_dict().items()}


@dataclass(slots=True)
class Course:
    """Where a run stands; all of it is in the checkpoint."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_hr: float = -1.0
    curves: dict[str, list[float]] = field(default_factory=lambda: {"loss": [], "epoch": [], "hr": [], "ndcg": []})

    def stalled(self, patience: int) -> bool:
        """Whether validation has not improved for `patience` epochs (0: never)."""
        return 0 < patience <= self.epoch - self.best_epoch


def fit(
    subject: Subject,
    dataset: Dataset,
    config: TrainConfig,
    folder: Path,
    seed: int,
    reporter: Reporter,
    *,
    resume: bool = False,
) -> Course:
    """Train, and leave the weights of the best validation HR@10 in `subject`.

    Raises:
        TrainingError: the loss is not finite; the checkpoint of the last good epoch is intact.
    """
    split = dataset.split()
    windows = cut_windows(split.train, subject.backbone.config.max_history, config.windows)
    groups = [{"params": list(subject.trained[name].parameters()), "lr": rate} for name, rate in subject.rates.items()]
    optimizer = torch.optim.Adam(groups)
    torch.manual_seed(seed)
    course, best = (_resumed(folder, subject, optimizer) if resume else None) or (Course(), subject.weights())
    steps = config.epochs * math.ceil(len(windows.rows) / config.batch_size)
    popularity = _log_popularity(split, len(dataset.contents))
    reporter.begin(config.epochs, course.epoch)
    while course.epoch < config.epochs and not course.stalled(config.patience):
        started = time.monotonic()
        rng = np.random.default_rng([seed, course.epoch])
        epoch = batches(windows, split.train, len(dataset.contents), config.batch_size, rng, CANDIDATES[config.loss])
        loss, encoded = _epoch(subject, optimizer, config, epoch, popularity, course, steps)
        course.epoch += 1
        course.curves["loss"].append(loss)
        if course.epoch % config.evaluate_every == 0 or course.epoch == config.epochs:
            best = _validated(subject, split, len(dataset.contents), course, best)
        _checkpoint(folder, subject, optimizer, course, best)
        reporter.epoch(course.epoch, encoded / (time.monotonic() - started), course.curves)
    subject.trained.load_state_dict(best)
    return course


def _epoch(
    subject: Subject,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    epoch: Iterator[Batch],
    popularity: Tensor,
    course: Course,
    steps: int,
) -> tuple[float, int]:
    """Run one epoch; return its mean loss and how many items were encoded."""
    losses, encoded = [], 0
    with _training(subject, config.dropout):
        for batch in epoch:
            _schedule(optimizer, subject, config, course.step / steps)
            loss = LOSSES[config.loss](predict(subject, batch, popularity))
            if not torch.isfinite(loss):
                kept = f"the checkpoint of epoch {course.epoch} is intact" if course.epoch else "nothing was kept"
                raise TrainingError(
                    f"the loss became {loss.item()} in epoch {course.epoch + 1}: lower train.lr and start again; {kept}"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            course.step += 1
            losses.append(float(loss.detach()))
            encoded += len(batch.distinct)
    return float(np.mean(losses)), encoded


def predict(subject: Subject, batch: Batch, popularity: Tensor) -> Predictions:
    """Run a batch through the encoders: each distinct item once; `popularity [n]` is the catalog's log popularity."""
    device = subject.backbone.device
    items = subject.item_vectors(batch.distinct)  # [m, d]
    windows, real = torch.from_numpy(batch.windows).to(device), torch.from_numpy(batch.real).to(device)
    inputs, seen = windows[:, :-1], real[:, :-1]
    # F.embedding, not items[inputs]: its gradient is summed in a fixed order, so that a seed gives one result.
    users = subject.user_vectors(F.embedding(inputs, items) * seen.unsqueeze(-1), seen)
    return Predictions(
        users=users,
        items=items,
        targets=windows[:, 1:],
        real=seen & real[:, 1:],
        own=torch.from_numpy(batch.own).to(device),
        negatives=torch.from_numpy(batch.negatives).to(device),
        log_popularity=popularity[torch.from_numpy(batch.distinct)].to(device),
    )


def _schedule(optimizer: torch.optim.Optimizer, subject: Subject, config: TrainConfig, done: float) -> None:
    share = 0.5 * (1.0 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1.0
    for group, rate in zip(optimizer.param_groups, subject.rates.values(), strict=True):
        group["lr"] = rate * share


@contextmanager
def _training(subject: Subject, dropout: float) -> Iterator[None]:
    """Switch on the user encoder's dropout; the item encoder's stays off, since its states are cached."""
    encoder = subject.backbone.model.user_encoder
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    encoder.train()
    try:
        yield
    finally:
        encoder.eval()


def _validated(subject: Subject, split: Split, items: int, course: Course, best: Weights) -> Weights:
    with torch.inference_mode():
        rows = np.arange(items)
        parts = [subject.item_vectors(rows[at : at + ENCODE_ITEMS]).cpu() for at in range(0, items, ENCODE_ITEMS)]
    vectors = torch.cat(parts).numpy()
    side = None if subject.adapter is None else subject.adapter.user
    users = encode_users(subject.backbone.model.user_encoder, split.train, vectors, side)
    ranks = rank_targets(users, vectors, split.valid, split.train).expected
    ranks = np.where(split.repeated("valid"), np.inf, ranks)
    hr = float(hit_rate(ranks).mean())
    for name, value in (("epoch", course.epoch), ("hr", hr), ("ndcg", float(ndcg(ranks).mean()))):
        course.curves[name].append(value)
    if hr <= course.best_hr:
        return best
    course.best_hr, course.best_epoch = hr, course.epoch
    return subject.weights()


def _log_popularity(split: Split, items: int) -> Tensor:
    counts = np.bincount(np.concatenate(split.train), minlength=items).clip(1)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def _checkpoint(
    folder: Path, subject: Subject, optimizer: torch.optim.Optimizer, course: Course, best: Weights
) -> None:
    content = {
        "weights": subject.weights(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "course": asdict(course),
        "best": best,
    }
    save_checkpoint(folder, content)


def _resumed(folder: Path, subject: Subject, optimizer: torch.optim.Optimizer) -> tuple[Course, Weights] | None:
    found = load_checkpoint(folder)
    if found is None:
        return None
    subject.trained.load_state_dict(found["weights"])
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["rng"])
    return Course(**found["course"]), found["best"]
