"""Texts of several lengths side by side in rows of equal width: the form for a GPU, which wants
few, large batches.

A row [W] holds whole texts, one behind the other, and pads where none fits any more, a few in a
hundred. A mask keeps attention within a text. Kernels for attention work on tiles of 64 tokens: a
title alone would leave most of one empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transrec.arrays import Integers
from transrec.attention import attention

TILE = 64
PAD = -1


@dataclass(frozen=True, slots=True)
class Rows:
    """Where n texts stand in R rows of W tokens.

    Attributes:
        starts: int64 [n], the place of each text's first token among all R · W.
        lengths: int64 [n].
        count: R.
        width: W.
    """

    starts: Integers
    lengths: Integers
    count: int
    width: int

    @classmethod
    def fit(cls, lengths: Integers) -> Self:
        """Lay texts of these lengths into rows, each time the longest that still fits.

        Texts of one length are alike, so that a way to fill a row serves for as many rows as there
        are texts for it.
        """
        width = -(-int(lengths.max()) // TILE) * TILE
        left = np.bincount(lengths, minlength=width + 1)
        # The texts of each length, and how many of them have a place.
        order = np.argsort(lengths, kind="stable")
        taken = np.cumsum(left) - left
        starts = np.empty(len(lengths), np.int64)
        count = 0
        longest = width
        while True:
            while longest and not left[longest]:
                longest -= 1
            if not longest:
                return cls(starts, lengths, count, width)
            chosen = _fill(left, longest, width)
            rows = min(int(left[length]) // times for length, times in chosen)
            place = 0
            for length, times in chosen:
                texts = order[taken[length] : taken[length] + rows * times].reshape(rows, times)
                inside = place + length * np.arange(times)
                starts[texts] = width * np.arange(count, count + rows)[:, None] + inside
                taken[length] += rows * times
                left[length] -= rows * times
                place += length * times
            count += rows

    def padded(self, count: int, step: int) -> Rows:
        """Return the same with `count` texts,
        the added ones being the first, and a multiple of `step` rows.
        """
        more = count - len(self.starts)
        starts = np.concatenate([self.starts, np.full(more, self.starts[0])])
        lengths = np.concatenate([self.lengths, np.full(more, self.lengths[0])])
        return Rows(starts, lengths, -(-self.count // step) * step, self.width)

    def tokens(self) -> tuple[Integers, Integers, Integers]:
        """Return for each token, text by text:
        its text, its position in it, and its place among all R · W.
        """
        owners = np.repeat(np.arange(len(self.lengths)), self.lengths)
        positions = np.arange(len(owners)) - np.repeat(
            np.cumsum(self.lengths) - self.lengths, self.lengths
        )
        return owners, positions, self.starts[owners] + positions


def _fill(left: Integers, longest: int, width: int) -> list[tuple[int, int]]:
    """Choose texts for one row, as (length,
    how many): the longest that fit, from the longest that is left.
    """
    chosen = []
    room = width
    length = longest
    while length:
        times = min(int(left[length]), room // length)
        if times:
            chosen.append((length, times))
            room -= length * times
        length = min(length - 1, room)
    return chosen


@dataclass(frozen=True, slots=True)
class Packing:
    """Packed texts on a device.

    Attributes:
        owners: [R, W], each token's text, -1 at pads.
        positions: [R, W], each token's place in its text.
        starts: [n], the place of each text's first token among all R · W.
        lengths: [n].
        longest: the most tokens of a text.
    """

    owners: Tensor
    positions: Tensor
    starts: Tensor
    lengths: Tensor
    longest: int
    _biases: dict[torch.dtype, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, rows: Rows, tokens: Integers, pad: int, device: torch.device | str
    ) -> tuple[Tensor, Self]:
        """Return what each token is [R, W], given text by text, and the packing."""
        owner, position, place = rows.tokens()
        size = rows.count * rows.width
        count = len(rows.starts)
        flat = np.empty(3 * size + 2 * count, np.int64)
        given = flat[:size]
        owners = flat[size : 2 * size]
        positions = flat[2 * size : 3 * size]
        given.fill(pad)
        owners.fill(PAD)
        positions.fill(0)
        given[place] = tokens
        owners[place] = owner
        positions[place] = position
        flat[3 * size : 3 * size + count] = rows.starts
        flat[3 * size + count :] = rows.lengths
        parts = torch.split(to_device(flat, device), [size, size, size, count, count])
        own, where = (part.view(rows.count, rows.width) for part in parts[1:3])
        packing = cls(own, where, parts[3], parts[4], int(rows.lengths.max()))
        return parts[0].view(rows.count, rows.width), packing

    def firsts(self, x: Tensor) -> Tensor:
        """Take the first token of each text: `x [R, W, H]` -> [1, n, H]."""
        return x.flatten(0, 1).index_select(0, self.starts).unsqueeze(0)

    def holds(self, x: Tensor) -> bool:
        """Whether `x` is of all tokens, not of the first ones."""
        return x.shape[:2] == self.owners.shape

    def mean(self, x: Tensor) -> Tensor:
        """Average the tokens of each text: `x [R, W, H]` -> [n, H]."""
        offsets = torch.arange(self.longest, device=x.device)
        lengths = self.lengths.unsqueeze(1)
        tokens = x.flatten(0, 1)[
            self.starts.unsqueeze(1) + torch.minimum(offsets, lengths - 1)
        ]  # [n, T, H]
        real = (offsets < lengths).to(x.dtype).unsqueeze(-1)
        return (tokens * real).sum(1) / lengths.to(x.dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within each text; all are [R, heads, W, H/heads]."""
        return attention(q, k, v, self._bias(q.dtype))

    def _bias(self, dtype: torch.dtype) -> Tensor:
        """Return what is added to scores [R,
        1, W, W]: nothing within a text, and among pads, which are never read.
        """
        if dtype not in self._biases:
            other = self.owners.unsqueeze(2) != self.owners.unsqueeze(1)
            bias = torch.zeros(other.shape, dtype=dtype, device=other.device)
            self._biases[dtype] = bias.masked_fill_(other, -torch.inf).unsqueeze(1)
        return self._biases[dtype]


def to_device(values: NDArray[np.generic], device: torch.device | str) -> Tensor:
    """Copy an array to a device; to a GPU without waiting for what it does."""
    tensor = torch.from_numpy(values)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
