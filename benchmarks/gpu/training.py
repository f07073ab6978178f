"""Section: time of a step and of an epoch, houlsby and side, against the scheme of the paper's
program.

The schemes are those of `benchmarks.train`: theirs encodes every place of every user's row, end to
end, at 30 tokens; ours each distinct item once, from cached states. Same model, batches, loss and
precision; steps in turns. The paper's epoch and houlsby's are extrapolated from steps, the others
are run.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch

from benchmarks.gpu.bars import BARS
from benchmarks.gpu.random_encoder import draw_titles, load
from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.setup import Setup, gpu_fast, guarded
from benchmarks.train import HOULSBY, SIDE, EachOnce, EveryOccurrence, first_batches, subject_of
from training.batches import Batch
from training.config import TrainConfig
from training.data import Dataset
from training.loop import Backward, backward_of, predict
from training.losses import LOSSES
from training.rejections import Rejections
from training.subject import Subject
from transrec.content import Content

PRECISIONS: tuple[Literal["bfloat16", "float32"], ...] = ("bfloat16", "float32")
LENGTH_MEAN = 5.0
LENGTH_MIN = 4
LENGTH_MAX = 60
"""Interactions of a user are the least plus a geometric number: a median of about 8."""
FAST = ("houlsby fast", "side fast")
WARM_STEPS = 2
RATE = 1e-4
EPOCH_STEPS = 10_000
"""More batches than an epoch has."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to train: what runs, what it trains with,
    and by precision what leaves a batch's gradient.
    """

    run: EveryOccurrence | EachOnce
    optimizer: torch.optim.Optimizer
    backward: dict[str, Backward]
    fast: bool = False


def measure(setup: Setup, report: SectionReport) -> None:
    """Compute the cached states, then measure steps in both precisions and our whole epochs.

    `houlsby fast` and `side fast` are ours with `SWAPREC_GPU_FAST=1`.
    """
    dataset = _log(setup)
    backbone = load(setup, setup.sizes.main)
    chosen = first_batches(dataset, backbone.config.max_history, EPOCH_STEPS)
    report.figure("steps_an_epoch", len(chosen))
    subjects = {}
    for name, spec in (
        ("houlsby", HOULSBY),
        ("side", SIDE),
        ("houlsby fast", HOULSBY),
        ("side fast", SIDE),
    ):
        began = time.perf_counter()
        with gpu_fast(on=name in FAST):
            subjects[name] = subject_of(backbone, dataset, spec, setup.folder / "states", "float16")
        setup.synchronize()
        report.figure(f"states_s_{name}", time.perf_counter() - began)
    schemes = _schemes(dataset, subjects)
    tokens = {
        name: float(np.mean([one.run.tokens(batch) for batch in chosen]))
        for name, one in schemes.items()
    }
    report.figure("encoder_tokens_a_step", tokens)
    with guarded(report, "recorded steps"):
        _compare_recorded(report, subjects, chosen[0])
    ratios = {name: list[float]() for name in subjects}
    for precision in PRECISIONS:
        with guarded(report, precision):
            found = _measure_steps(setup, report, schemes, chosen, precision)
            for name, value in found.items():
                ratios[name].append(value)
                # The bar is about the precision in which we are less fast.
                if name in BARS:
                    report.bar(name, min(ratios[name]))
    for name in ("side", *FAST):
        with guarded(report, f"a whole epoch of {name}"):
            _measure_epoch(setup, report, name, schemes[name], chosen)


def _measure_steps(
    setup: Setup,
    report: SectionReport,
    schemes: dict[str, Scheme],
    chosen: Sequence[Batch],
    precision: str,
) -> dict[str, float]:
    """Run steps of all schemes in turns;
    returns how many times as fast as the paper's each of ours is.
    """
    seconds: dict[str, list[float]] = {name: [] for name in schemes}
    # A shape's graph is recorded once a run, not once a step; what that takes is in the epochs
    # below.
    began = time.perf_counter()
    for name in FAST:
        for batch in chosen[: setup.sizes.steps + WARM_STEPS]:
            _step(setup, schemes[name], batch, precision)
    report.figure(f"first_steps_s_{precision}", time.perf_counter() - began)
    ends = time.monotonic() + setup.left_s / (2 if precision == PRECISIONS[0] else 1.5)
    for number in range(setup.sizes.steps + WARM_STEPS):
        if number > WARM_STEPS and time.monotonic() > ends:
            break
        for name, scheme in schemes.items():
            taken = _step(setup, scheme, chosen[number % len(chosen)], precision)
            if number >= WARM_STEPS:
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    report.figure(f"step_s_{precision}", seconds)
    epochs = {name: len(chosen) * value for name, value in medians.items()}
    report.figure(f"epoch_s_{precision}_extrapolated", epochs)
    found = {}
    for name in (name for name in schemes if name != "paper"):
        each = sorted(
            theirs / ours for theirs, ours in zip(seconds["paper"], seconds[name], strict=True)
        )
        found[name] = statistics.median(each)
        report.row(
            f"{name} / the paper's scheme, {precision}",
            f"{found[name]:.1f} times as fast ({each[0]:.1f} to {each[-1]:.1f}):"
            f" {1000 * medians[name]:.1f} ms a step against {1000 * medians['paper']:.0f}; an epoch"
            f" {epochs[name]:.1f} s against {epochs['paper']:.0f} s, extrapolated from {len(each)}"
            f" of {len(chosen)} steps",
        )
    return found


def _measure_epoch(
    setup: Setup, report: SectionReport, name: str, scheme: Scheme, chosen: Sequence[Batch]
) -> None:
    began = time.perf_counter()
    done = 0
    for batch in chosen:
        if setup.left_s < 2.0:
            break
        _step(setup, scheme, batch, PRECISIONS[0])
        done += 1
    seconds = time.perf_counter() - began
    report.figure(f"{name}_epoch_run", {"steps": done, "of": len(chosen), "seconds": seconds})
    report.row(f"{name}, an epoch as it runs", f"{seconds:.1f} s for {done} of {len(chosen)} steps")


def _step(setup: Setup, scheme: Scheme, batch: Batch, precision: str) -> float:
    """Do one step as the trainer does; returns its seconds."""
    setup.synchronize()
    began = time.perf_counter()
    scheme.optimizer.zero_grad(set_to_none=True)
    with gpu_fast(on=scheme.fast):
        value = scheme.backward[precision](batch)
    assert value is not None  # noqa: S101 - one process has all of every batch
    if not math.isfinite(float(value.detach())):
        raise ValueError(f"the loss is {float(value)}")
    scheme.optimizer.step()
    setup.synchronize()
    return time.perf_counter() - began


def _compare_recorded(report: SectionReport, subjects: dict[str, Subject], batch: Batch) -> None:
    """Compare a recorded step's loss and gradient in
    float32 with those of a step as it is by default.
    """
    for name in FAST:
        subject = subjects[name]
        parameters = list(subject.trained.parameters())
        popularity = torch.zeros(len(batch.distinct) + EPOCH_STEPS)
        found = []
        for own in (True, False):
            subject.trained.zero_grad(set_to_none=True)
            if own:
                value = LOSSES["bce"](predict(subject, batch, popularity))
                value.backward()
            else:
                with gpu_fast():
                    recorded = backward_of(subject, popularity, TrainConfig(loss="bce"))(batch)
                assert recorded is not None  # noqa: S101 - one process has all of every batch
                value = recorded
            parts = [one.grad.flatten() for one in parameters if one.grad is not None]
            found.append((float(value.detach()), torch.cat(parts).clone()))
        (loss, gradient), (other, recorded_gradient) = found
        apart = float((gradient - recorded_gradient).norm() / gradient.norm())
        report.figure(
            f"{name}_recorded", {"loss": loss, "recorded": other, "gradient_apart": apart}
        )
        report.row(
            f"{name}, a recorded step",
            f"loss {other:.6f} against {loss:.6f}, gradients {apart:.1e} apart",
        )


def _schemes(dataset: Dataset, subjects: dict[str, Subject]) -> dict[str, Scheme]:
    fused = {
        name: name in FAST and subject.backbone.device.type == "cuda"
        for name, subject in subjects.items()
    }
    optimizers = {
        name: torch.optim.Adam(subject.trained.parameters(), lr=RATE, fused=fused[name])
        for name, subject in subjects.items()
    }
    paper = EveryOccurrence(subjects["houlsby"], dataset)
    schemes = {
        "paper": Scheme(
            paper, optimizers["houlsby"], {name: _theirs(paper, name) for name in PRECISIONS}
        )
    }
    for name, subject in subjects.items():
        run = EachOnce(subject, dataset)
        with gpu_fast(on=name in FAST):
            ours: dict[str, Backward] = {
                precision: backward_of(
                    subject, run.popularity, TrainConfig(loss="bce", precision=precision)
                )
                for precision in PRECISIONS
            }
        schemes[name] = Scheme(run, optimizers[name], ours, name in FAST)
    return schemes


def _theirs(paper: EveryOccurrence, precision: str) -> Backward:
    def backward(batch: Batch) -> torch.Tensor:
        with torch.autocast(paper.mask.device.type, torch.bfloat16, precision == "bfloat16"):
            loss = paper.loss(batch)
        loss.backward()
        return loss

    return backward


def _log(setup: Setup) -> Dataset:
    """Draw a log: titles, and users whose items follow Zipf's law."""
    sizes = setup.sizes
    rng = np.random.default_rng(9)
    titles = draw_titles(sizes.train_items, sizes.vocabulary, 10)
    odds = 1.0 / np.arange(10, sizes.train_items + 10)
    lengths = LENGTH_MIN + rng.geometric(1 / LENGTH_MEAN, sizes.train_users).clip(max=LENGTH_MAX)
    drawn = rng.choice(sizes.train_items, int(lengths.sum()), p=odds / odds.sum()).astype(np.int64)
    sequences = np.split(drawn, np.cumsum(lengths)[:-1])
    users = [f"user-{number}" for number in range(sizes.train_users)]
    contents = [Content(title) for title in titles]
    return Dataset("random", cast("Any", None), contents, users, sequences, "", Rejections())
