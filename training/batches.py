"""Windows of users' training sequences, and the batches made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transrec.arrays import Integers
from transrec.window import pad_left

Candidates = Literal["negatives", "last_negative", "batch", "catalog"]
"""What a window's items compete with: one sampled negative a position, or at the last one, the
batch's items, or the whole catalog."""


@dataclass(frozen=True, slots=True)
class Windows:
    """All training windows: `rows [W,
    L + 1]` of catalog rows, left-padded, `real [W, L + 1]`, `owner [W]` user.
    """

    rows: Integers
    real: NDArray[np.bool_]
    owner: Integers


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch: distinct catalog rows [m] and, as places within them, its windows and negatives.

    windows: int64 [B, L + 1]. real: bool [B, L + 1]. own: bool [B, m]. negatives: int64 [B, L].
    share: of the whole batch's targets, those that are here; 1 unless several processes divide a
    batch.
    """

    distinct: Integers
    windows: Integers
    real: NDArray[np.bool_]
    own: NDArray[np.bool_]
    negatives: Integers
    share: float = 1.0


def cut_windows(sequences: Sequence[Integers], length: int, which: str) -> Windows:
    """Cut training sequences into windows of `length + 1`.

    Args:
        sequences: catalog rows by user, oldest first.
        length: L of the user encoder.
        which: `last` keeps each user's newest window (the paper's rule), `all` covers the whole
            sequence; windows then share one item, so that every item but the first is a target
            once.
    """
    pieces = []
    owner = []
    for user, sequence in enumerate(sequences):
        end = len(sequence)
        while end >= 2:  # noqa: PLR2004 - a window needs an input and a target
            pieces.append(sequence[max(0, end - length - 1) : end])
            owner.append(user)
            end -= length
            if which == "last":
                break
    rows, real = pad_left(pieces, length + 1)
    return Windows(rows, real, np.array(owner, np.int64))


def batches(
    windows: Windows,
    sequences: Sequence[Integers],
    items: int,
    size: int,
    rng: np.random.Generator,
    candidates: Candidates,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield one epoch in an order that depends on `rng` alone.

    Args:
        windows: of all users.
        sequences: users' training items: never drawn as negatives.
        items: size of the catalog.
        size: windows a batch.
        rng: of this epoch.
        candidates: which distinct items a batch holds.
        part: which of how many parts of each batch to yield; windows and negatives are drawn for
            all of it first.
    """
    order = rng.permutation(len(windows.rows))
    mine = slice(part[0], None, part[1])
    everything = np.arange(items)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        rows = windows.rows[chosen]
        real = windows.real[chosen]
        taken = [sequences[owner] for owner in windows.owner[chosen]]
        asked = real[:, 1:].copy()
        if candidates == "last_negative":
            asked[:, :-1] = False
        drawn = (
            _negatives(taken, asked, items, rng)
            if candidates.endswith(("negatives", "negative"))
            else rows[:, 1:]
        )
        predicted = (asked & real[:, :-1]).sum(1)  # of each window
        rows = rows[mine]
        real = real[mine]
        taken = taken[mine]
        asked = asked[mine]
        drawn = drawn[mine]
        distinct = (
            everything
            if candidates == "catalog"
            else np.unique(np.concatenate([rows[real], drawn[asked]]))
        )
        place = np.zeros(items, np.int64)
        place[distinct] = np.arange(len(distinct))
        own = np.zeros((len(rows), len(distinct)), np.bool_)
        for line, row in zip(own, taken, strict=True):
            present = place[row]
            line[present[distinct[present] == row]] = True
        yield Batch(
            distinct,
            place[rows],
            real,
            own,
            place[drawn],
            float(predicted[mine].sum() / max(1, predicted.sum())),
        )


def _negatives(
    taken: Sequence[Integers], real: NDArray[np.bool_], items: int, rng: np.random.Generator
) -> Integers:
    """Draw uniformly from the items that a user has
    not in training; a user who has all gets any.
    """
    drawn = rng.integers(0, items, real.shape)
    for line, row in zip(drawn, taken, strict=True):
        if len(set(row.tolist())) >= items:
            continue
        while (wrong := np.isin(line, row)).any():
            line[wrong] = rng.integers(0, items, int(wrong.sum()))
    return drawn
