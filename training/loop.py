"""The loop: epochs over windows, validation over the whole catalog, the best weights kept, a
checkpoint an epoch.

Everything random comes from the seed and the epoch, or from a generator whose state is in the
checkpoint, so that a resumed run gives the numbers of an uninterrupted one. Several processes
divide each batch; the leader validates and writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import Batch, Candidates, batches, cut_windows
from training.captured import CapturedSteps
from training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.course import Course, Stretch
from training.data import Dataset, Split
from training.losses import LOSSES, Predictions
from training.memory import peak_memory
from training.progress import Reporter
from training.subject import Subject, Weights
from training.team import Team
from transrec.gpu import is_fast
from transrec.item_encoder import ItemEncoder
from transrec.metrics import hit_rate, ndcg, rank_targets
from transrec.model import encode_users

CANDIDATES: dict[str, Candidates] = {
    "bce": "negatives",
    "cpc": "last_negative",
    "in_batch_debiased": "batch",
    "full_softmax": "catalog",
}
ENCODE_ITEMS = 2048

Backward = Callable[[Batch], Tensor | None]


class TrainingError(RuntimeError):
    """A run that cannot go on; says what happened and what is left to resume from."""


def fit(
    subject: Subject,
    dataset: Dataset,
    config: TrainConfig,
    folder: Path,
    seed: int,
    reporter: Reporter,
    *,
    resume: bool = False,
    team: Team | None = None,
    stretch: Stretch | None = None,
) -> Course:
    """Train, and leave the weights of the best validation HR@10 in the leader's `subject`.

    Raises:
        TrainingError: nothing to train on, a loss that is not finite, no memory or no disk left;
            the checkpoint of the last good epoch is intact.
    """
    team = team or Team()
    stretch = stretch or Stretch()
    split = dataset.split()
    windows = cut_windows(split.train, subject.backbone.config.max_history, config.windows)
    if not len(windows.rows):
        raise TrainingError(
            f"no user of {dataset.name} has two training interactions: the last two of each are"
            " held out for validation and test; give users with four or more"
        )
    groups = [
        {"params": list(subject.trained[name].parameters()), "lr": rate}
        for name, rate in subject.rates.items()
    ]
    # Fused: one kernel in place of some twenty, each of which this process would have to launch.
    optimizer = torch.optim.Adam(groups, fused=is_fast(subject.backbone.device))
    torch.manual_seed(seed + team.rank)
    kept = _resumed(folder, subject, optimizer, team, stretch) if resume else None
    course, best = kept or (Course(), subject.weights())
    steps = config.epochs * math.ceil(len(windows.rows) / config.batch_size)
    popularity = _log_popularity(split, len(dataset.contents))
    backward = backward_of(subject, popularity, config)
    reporter.begin(config.epochs, course.epoch)
    while course.epoch < config.epochs and not course.stalled(config.patience):
        started = time.monotonic()
        rng = np.random.default_rng([seed, course.epoch])
        epoch = batches(
            windows,
            split.train,
            len(dataset.contents),
            config.batch_size,
            rng,
            CANDIDATES[config.loss],
            (team.rank, team.size),
        )
        loss, encoded = _epoch(subject, optimizer, config, epoch, backward, course, steps, team)
        course.epoch += 1
        course.curves["loss"].append(loss)
        course.seconds += time.monotonic() - started
        course.note_memory(peak_memory(subject.backbone.device), stretch)
        if course.epoch % config.evaluate_every == 0 or course.epoch == config.epochs:
            best = _validated(subject, split, len(dataset.contents), course, best, team)
        _checkpoint(folder, subject, optimizer, course.to_checkpoint(stretch), best, team)
        reporter.epoch(course.epoch, encoded / (time.monotonic() - started), course.curves)
    subject.trained.load_state_dict(best)
    return course


def _epoch(
    subject: Subject,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    epoch: Iterator[Batch],
    backward: Backward,
    course: Course,
    steps: int,
    team: Team,
) -> tuple[float, int]:
    """Run one epoch; return its mean loss and how many items were encoded."""
    losses = []
    encoded = 0
    with _training(subject, config), _explain_memory_error(course):
        for batch in epoch:
            _schedule(optimizer, subject, config, course.step / steps)
            optimizer.zero_grad(set_to_none=True)
            loss = team.sum_gradients(list(subject.trained.parameters()), backward(batch))
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {course.epoch + 1}: lower train.lr and start"
                    f" again; {_kept(course)}"
                )
            optimizer.step()
            course.step += 1
            losses.append(loss)
            encoded += len(batch.distinct)
    return float(np.mean(losses)), encoded


def backward_of(subject: Subject, popularity: Tensor, config: TrainConfig) -> Backward:
    """Return what leaves the gradient of this process's share of a batch and returns its loss.

    That is None where the share has no target. With `SWAPREC_GPU_FAST=1` a GPU
    runs recorded steps, where the subject and the loss allow.
    """
    reduced = config.precision == "bfloat16"
    fits = CapturedSteps.fits(subject, config.loss, recompute=config.recompute)
    captured = CapturedSteps(subject, config.loss, reduced=reduced) if fits else None

    def backward(batch: Batch) -> Tensor | None:
        if not batch.share:
            return None
        found = captured.backward(batch) if captured is not None else None
        return _backward(subject, batch, popularity, config) if found is None else found

    return backward


def _backward(subject: Subject, batch: Batch, popularity: Tensor, config: TrainConfig) -> Tensor:
    with torch.autocast(
        torch.device(subject.backbone.device).type, torch.bfloat16, config.precision == "bfloat16"
    ):
        predicted = predict(subject, batch, popularity)
    loss = LOSSES[config.loss](predicted) * batch.share
    loss.backward()
    return loss


def _kept(course: Course) -> str:
    return (
        f"the checkpoint of epoch {course.epoch} is intact" if course.epoch else "nothing was kept"
    )


@contextmanager
def _explain_memory_error(course: Course) -> Iterator[None]:
    """Say what to do where a step finds no memory, on the GPU or off it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(
            error, MemoryError | torch.OutOfMemoryError
        ) and "not enough memory" not in str(error):
            raise
        raise TrainingError(
            f"out of memory in epoch {course.epoch + 1}: lower train.batch_size or"
            f" backbone.max_history, or set train.recompute = true; {_kept(course)} ({error})"
        ) from error


def predict(subject: Subject, batch: Batch, popularity: Tensor) -> Predictions:
    """Run a batch through the encoders:
    each distinct item once; `popularity [n]` is the catalog's log popularity.
    """
    device = subject.backbone.device
    items = subject.item_vectors(batch.distinct)  # [m, d]
    windows = torch.from_numpy(batch.windows).to(device)
    real = torch.from_numpy(batch.real).to(device)
    inputs = windows[:, :-1]
    seen = real[:, :-1]
    # F.embedding, not items[inputs]: its gradient is summed in a fixed order, so that a seed gives
    # one result.
    users = subject.user_vectors(F.embedding(inputs, items) * seen.unsqueeze(-1), seen)
    return Predictions(
        users=users.float(),
        items=items.float(),
        targets=windows[:, 1:],
        real=seen & real[:, 1:],
        own=torch.from_numpy(batch.own).to(device),
        negatives=torch.from_numpy(batch.negatives).to(device),
        log_popularity=popularity[torch.from_numpy(batch.distinct)].to(device),
    )


def _schedule(
    optimizer: torch.optim.Optimizer, subject: Subject, config: TrainConfig, done: float
) -> None:
    share = 0.5 * (1.0 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1.0
    for group, rate in zip(optimizer.param_groups, subject.rates.values(), strict=True):
        group["lr"] = rate * share


@contextmanager
def _training(subject: Subject, config: TrainConfig) -> Iterator[None]:
    """Switch on the user encoder's dropout;
    the item encoder's stays off, since its states are cached.
    """
    model = subject.backbone.model
    for module in model.user_encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    encoders = [module for module in model.modules() if isinstance(module, ItemEncoder)]
    for encoder in encoders:
        encoder.recomputes = config.recompute
    model.user_encoder.train()
    try:
        yield
    finally:
        model.user_encoder.eval()
        for encoder in encoders:
            encoder.recomputes = False


def _validated(
    subject: Subject, split: Split, items: int, course: Course, best: Weights, team: Team
) -> Weights:
    """Note HR@10 and NDCG@10 over the whole catalog;
    return copies of the weights where they are the best yet.
    """
    hr, found = team.broadcast(_measured(subject, split, items) if team.leads else None)
    for name, value in (("epoch", course.epoch), ("hr", hr), ("ndcg", found)):
        course.curves[name].append(value)
    if hr <= course.best_hr:
        return best
    course.best_hr = hr
    course.best_epoch = course.epoch
    return subject.weights()


def _measured(subject: Subject, split: Split, items: int) -> tuple[float, float]:
    with torch.inference_mode():
        rows = np.arange(items)
        parts = [
            subject.item_vectors(rows[at : at + ENCODE_ITEMS]).cpu()
            for at in range(0, items, ENCODE_ITEMS)
        ]
    vectors = torch.cat(parts).numpy()
    side = None if subject.adapter is None else subject.adapter.user
    users = encode_users(subject.backbone.model.user_encoder, split.train, vectors, side)
    ranks = rank_targets(users, vectors, split.valid, split.train).expected
    ranks = np.where(split.repeated("valid"), np.inf, ranks)
    return float(hit_rate(ranks).mean()), float(ndcg(ranks).mean())


def _log_popularity(split: Split, items: int) -> Tensor:
    counts = np.bincount(np.concatenate(split.train), minlength=items).clip(1)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def _checkpoint(
    folder: Path,
    subject: Subject,
    optimizer: torch.optim.Optimizer,
    course: dict[str, Any],
    best: Weights,
    team: Team,
) -> None:
    generators = team.gathered(_generators(subject.backbone.device))
    if not team.leads:
        return
    content = {
        "weights": subject.weights(),
        "optimizer": optimizer.state_dict(),
        "rng": generators,
        "course": course,
        "best": best,
    }
    try:
        save_checkpoint(folder, content)
    except CheckpointError as error:
        before = course["epoch"] - 1
        kept = f"that of epoch {before} is intact" if before else "there is none yet"
        raise TrainingError(f"{error}; {kept}: make room and go on with --resume") from error


def _generators(device: torch.device) -> Weights:
    """States of what dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _resumed(
    folder: Path, subject: Subject, optimizer: torch.optim.Optimizer, team: Team, stretch: Stretch
) -> tuple[Course, Weights] | None:
    found = load_checkpoint(folder)
    if found is None:
        return None
    if len(found["rng"]) != team.size:
        raise TrainingError(
            f"{folder} holds a run of {len(found['rng'])} processes: resume it with as many, not"
            f" with {team.size}"
        )
    subject.trained.load_state_dict(found["weights"])
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["rng"][team.rank]["cpu"])
    if "cuda" in found["rng"][team.rank]:
        torch.cuda.set_rng_state(found["rng"][team.rank]["cuda"], subject.backbone.device)
    return Course.resume(found["course"], stretch), found["best"]
