"""From contents to what an encoder takes:
token ids, pixels, or both, in batches that need no padding.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from transrec.arrays import Integers
from transrec.content import Content
from transrec.image_encoder import ImageShape
from transrec.images import read_pixels
from transrec.packing import Packing, Rows
from transrec.pair_encoder import Pair
from transrec.text_encoder import AttributeTokens, Tokens

BATCH_TOKENS = 4096


class Loads(Protocol):
    """What gives an encoder its inputs; `load` may be called from any thread.

    AttributeTokens:
        groups: int64 [n]; items of one group make a batch.
        tokens: int64 [n]; how many tokens each item costs.
    """

    groups: Integers
    tokens: Integers

    def load(self, places: Integers, device: torch.device | str) -> Any:
        """Return the encoder's input for items of one group."""
        ...


class Inputs(Loads, Protocol):
    """What a list of contents is to an encoder."""

    def fingerprint(self) -> bytes:
        """Return what changes when any of the items does."""
        ...


TokenIds = Sequence[Sequence[int]]


class AttributeInputs:
    """Texts of several attributes as token ids;
    a group is which of them an item has, and how long each is.
    """

    def __init__(self, attributes: Sequence[TokenIds]) -> None:
        self._attributes = [TextInputs(ids) for ids in attributes]
        lengths = np.stack(
            [one.tokens for one in self._attributes], 1
        )  # [n, attributes], 0 where there is none
        self.tokens = lengths.sum(1)
        self.groups = (
            np.unique(lengths, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        )

    def load(self, places: Integers, device: torch.device | str) -> AttributeTokens:
        """Return ids [b, T] of each attribute that these items have."""
        there = [one for one in self._attributes if one.tokens[places[0]]]
        return AttributeTokens(tuple(one.load(places, device) for one in there))

    def fingerprint(self) -> bytes:
        """Hash the ids."""
        return b"".join(one.fingerprint() for one in self._attributes)


class TextInputs:
    """Texts as token ids; a group is a length."""

    def __init__(self, ids: TokenIds) -> None:
        self.ids = ids
        self.tokens = np.array([len(row) for row in ids], np.int64)
        self.groups = self.tokens

    def load(self, places: Integers, device: torch.device | str) -> Tokens:
        """Return ids [b, T], never padded."""
        return Tokens(
            torch.tensor([self.ids[place] for place in places], dtype=torch.int64, device=device)
        )

    def packed(self, places: Integers, device: torch.device | str) -> Tokens:
        """Return texts of any length packed, ids [R, W] and where each text stands."""
        lengths = self.tokens[places]
        tokens = itertools.chain.from_iterable(self.ids[place] for place in places)
        ids = np.fromiter(tokens, np.int64, int(lengths.sum()))
        return Tokens(*Packing.of(Rows.fit(lengths), ids, 0, device))

    def padded(self, places: Integers, device: torch.device | str) -> Tokens:
        """Return texts of any length in one batch, ids [b, T] and, where lengths differ, a mask."""
        width = int(self.tokens[places].max())
        real = np.arange(width) < self.tokens[places, None]
        ids = np.zeros((len(places), width), np.int64)
        for line, place in zip(ids, places, strict=True):
            line[: self.tokens[place]] = self.ids[place]
        mask = None if real.all() else torch.from_numpy(real).to(device)
        return Tokens(torch.from_numpy(ids).to(device), mask)

    def fingerprint(self) -> bytes:
        """Hash the ids."""
        total = hashlib.sha256()
        for row in self.ids:
            total.update(np.array([len(row), *row], np.int32).tobytes())
        return total.digest()


class ImageInputs:
    """Pictures as pixels, decoded when they are needed; all are one group."""

    def __init__(self, contents: Sequence[Content], shape: ImageShape) -> None:
        self._contents = contents
        self.shape = shape
        self.tokens = np.full(len(contents), shape.first + shape.patches, np.int64)
        self.groups = np.zeros(len(contents), np.int64)

    def load(self, places: Integers, device: torch.device | str) -> torch.Tensor:
        """Return pixels, uint8 [b, 3, S, S].

        Raises:
            ImageError: a picture is missing or damaged.
        """
        return torch.from_numpy(np.stack([self.pixels(int(place)) for place in places])).to(device)

    def pixels(self, place: int) -> NDArray[np.uint8]:
        """Return one item's pixels, uint8 [3, S, S]."""
        image = self._contents[place].image
        assert image is not None  # noqa: S101 - an item without one is refused where it comes in
        return read_pixels(image.read(), self.shape.preprocessing, image.name)

    def fingerprint(self) -> bytes:
        """Hash the pictures' digests and how they are prepared."""
        total = hashlib.sha256(repr(self.shape.preprocessing).encode())
        for content in self._contents:
            total.update(
                (content.image.digest if content.image is not None else "").encode() + b"\n"
            )
        return total.digest()


class PairInputs:
    """Texts and pictures; a group is one of the text's (0:
    no text) and whether there is a picture.
    """

    def __init__(
        self, texts: TextInputs | AttributeInputs, images: ImageInputs, contents: Sequence[Content]
    ) -> None:
        self.text = texts
        self.image = images
        self.has_text = np.array([bool(content.text) for content in contents], np.bool_)
        self.has_image = np.array([content.image is not None for content in contents], np.bool_)
        self.tokens = texts.tokens * self.has_text + images.tokens * self.has_image
        self.groups = 2 * (texts.groups + 1) * self.has_text + self.has_image

    def load(self, places: Integers, device: torch.device | str) -> Pair:
        """Return both, or the one that this group has."""
        first = places[0]
        return Pair(
            self.text.load(places, device) if self.has_text[first] else None,
            self.image.load(places, device) if self.has_image[first] else None,
        )

    def fingerprint(self) -> bytes:
        """Hash both."""
        return self.text.fingerprint() + self.image.fingerprint()


def take(inputs: Tokens | AttributeTokens | torch.Tensor | Pair, rows: Integers) -> Any:
    """Take some rows of what `load` returned."""
    if isinstance(inputs, Pair):
        return Pair(
            *(None if part is None else take(part, rows) for part in (inputs.text, inputs.image))
        )
    if isinstance(inputs, AttributeTokens):
        return AttributeTokens(tuple(take(part, rows) for part in inputs.parts))
    if isinstance(inputs, Tokens):
        assert not isinstance(inputs.mask, Packing)  # noqa: S101 - `load` never packs
        return Tokens(inputs.ids[rows], None if inputs.mask is None else inputs.mask[rows])
    return inputs[rows]


def batches(
    inputs: Loads, rows: Integers | None = None, budget: int = BATCH_TOKENS
) -> Iterator[Integers]:
    """Yield places [b] of one group each, of at most `budget` tokens.

    Args:
        inputs: of all items.
        rows: those that are wanted; None: all.
        budget: tokens a batch.
    """
    rows = np.arange(len(inputs.groups)) if rows is None else rows
    groups = inputs.groups[rows]
    for group in np.unique(groups):
        places = rows[groups == group]
        size = max(1, budget // int(inputs.tokens[places[0]]))
        for start in range(0, len(places), size):
            yield places[start : start + size]


def any_batches(inputs: Loads, budget: int) -> Iterator[Integers]:
    """Yield places of items of any length,
    in order, in batches of equal size and of about `budget` tokens at most.
    """
    count = len(inputs.tokens)
    parts = -(-int(inputs.tokens.sum()) // budget)
    yield from np.array_split(np.arange(count), min(count, max(1, parts))) if count else ()
