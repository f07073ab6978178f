"""The forward and backward pass of a step as CUDA graphs, which a GPU runs by itself.

An adapter's kernels are small: a `side` step launches 500 of them, which takes 20 ms on the host of
an H200 and 1.2 ms on the card. A graph is recorded once for each shape of a batch. So that few
shapes occur, a batch is padded: with items that no window names, and with positions whose loss has
no weight.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.batches import Batch
from training.states import PooledStates, PrefixStates
from training.subject import Subject
from transrec.gpu import is_fast
from transrec.packing import to_device

LOSSES = ("bce", "cpc")
"""Losses of sampled negatives: an item that pads a batch competes with nothing."""
ITEMS_STEP = 64
"""Distinct items of a batch are padded to a multiple of this."""
WARM_RUNS = 2
MAX_GRAPHS = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepArrays:
    """A batch as arrays: `whole` of int64,
    `weights [B, L]` of float32, what each position's loss counts.
    """

    whole: list[NDArray[np.int64]]
    weights: NDArray[np.float32]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What a graph is recorded for."""
        return tuple(array.shape for array in self.whole)


def step_arrays(subject: Subject, batch: Batch, loss: str) -> StepArrays:
    """Lay out a batch, its items padded."""
    assert isinstance(subject.states, PooledStates | PrefixStates)  # noqa: S101 - `CapturedSteps.fits` was asked
    asked = batch.real[:, :-1] & batch.real[:, 1:]
    if loss == "cpc":
        asked = asked.copy()
        asked[:, :-1] = False
    count = math.ceil(len(batch.distinct) / ITEMS_STEP) * ITEMS_STEP
    items = subject.states.arrays(batch.distinct, count)
    weights = (asked * (batch.share / asked.sum())).astype(np.float32)
    return StepArrays(
        [*items, batch.windows, batch.negatives, batch.real.astype(np.int64)], weights
    )


def weighted_loss(
    subject: Subject, whole: Sequence[Tensor], weights: Tensor, *, reduced: bool
) -> Tensor:
    """Return the loss of a batch that `step_arrays` laid out: what the trainer's own BCE or CPC is.

    Args:
        subject: what trains.
        whole: its arrays.
        weights: of the positions.
        reduced: run in bfloat16.
    """
    assert isinstance(subject.states, PooledStates | PrefixStates)  # noqa: S101 - `CapturedSteps.fits` was asked
    *places, windows, negatives, real = whole
    side = None if subject.adapter is None else subject.adapter.item
    device = subject.backbone.device.type
    # A graph must not hold casts of weights that were made before it was recorded.
    with torch.autocast(device, torch.bfloat16, reduced, cache_enabled=False):
        items = subject.backbone.model.project(subject.states.run(places, side), side)
        seen = real[:, :-1] > 0
        users = subject.user_vectors(F.embedding(windows[:, :-1], items) * seen.unsqueeze(-1), seen)
    users = users.float()
    items = items.float()
    positive, negative = (
        (users * F.embedding(other, items)).sum(-1) for other in (windows[:, 1:], negatives)
    )
    return ((F.softplus(-positive) + F.softplus(negative)) * weights).sum()


class CapturedSteps:
    """Graphs of a subject's steps by the shapes of a batch.

    Args:
        subject: on a GPU; `fits` must hold.
        loss: `bce` or `cpc`.
        reduced: whether steps run in bfloat16.
    """

    def __init__(self, subject: Subject, loss: str, *, reduced: bool) -> None:
        self._subject = subject
        self._loss = loss
        self._reduced = reduced
        self._graphs: dict[Any, _Graph] = {}
        self._pool: Any = torch.cuda.graph_pool_handle()

    @staticmethod
    def fits(subject: Subject, loss: str, *, recompute: bool = False) -> bool:
        """Whether a subject's steps can be recorded:
        on a GPU, from states that are cached there.
        """
        states = subject.states
        cached = isinstance(states, PooledStates | PrefixStates) and is_fast(states.table.device)
        packs = subject.adapter is None or subject.adapter.item.packs
        return cached and packs and loss in LOSSES and not recompute

    def backward(self, batch: Batch) -> Tensor | None:
        """Leave a batch's gradient in what trains,
        and return its loss; None where recording failed.
        """
        arrays = step_arrays(self._subject, batch, self._loss)
        graph = self._graphs.get(arrays.shapes)
        if graph is None:
            if len(self._graphs) >= MAX_GRAPHS:
                self._graphs.clear()
            try:
                graph = self._graphs[arrays.shapes] = _Graph(
                    self._subject, arrays, self._pool, reduced=self._reduced
                )
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                _log.warning(
                    "steps run one kernel at a time: no CUDA graph could be recorded (%s)", error
                )
                return None
        return graph.replay(arrays)


class _Graph:
    """One recorded forward and backward pass, what it reads, and the gradients that it writes."""

    def __init__(self, subject: Subject, arrays: StepArrays, pool: Any, *, reduced: bool) -> None:
        device = subject.backbone.device
        self._parameters = list(subject.trained.parameters())
        self._whole = to_device(_flat(arrays), device)
        self._weights = to_device(arrays.weights, device)
        sizes = [array.size for array in arrays.whole]
        views = [
            part.view(array.shape)
            for part, array in zip(torch.split(self._whole, sizes), arrays.whole, strict=True)
        ]

        def run() -> Tensor:
            self._clear()
            loss = weighted_loss(subject, views, self._weights, reduced=reduced)
            loss.backward()
            return loss.detach()

        drawn = torch.cuda.get_rng_state(device)
        temporary = torch.cuda.Stream(device)
        temporary.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(temporary):
            for _ in range(WARM_RUNS):
                run()
        torch.cuda.current_stream(device).wait_stream(temporary)
        # What dropout drew while warming is drawn again: a resumed run must not depend on what was
        # recorded when.
        torch.cuda.set_rng_state(drawn, device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._loss = run()
        self._gradients = [parameter.grad for parameter in self._parameters]

    def replay(self, arrays: StepArrays) -> Tensor:
        """Run it on a batch of its shapes."""
        self._whole.copy_(torch.from_numpy(_flat(arrays)).pin_memory(), non_blocking=True)
        self._weights.copy_(torch.from_numpy(arrays.weights).pin_memory(), non_blocking=True)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _flat(arrays: StepArrays) -> NDArray[np.int64]:
    return np.concatenate([array.reshape(-1) for array in arrays.whole])
