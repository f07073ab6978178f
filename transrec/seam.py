"""The seam between an encoder and an adapter: what an encoder asks while it runs, and who answers
when nobody adapts.

An encoder never holds an adapter. It is handed an `Adapt` and asks it at each place where something
could differ, so that two threads with two adapters can never meet. A kind of adapter overrides the
questions that concern it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from torch import Tensor, nn

Place = Literal["attention", "ffn"]
PLACES: tuple[Place, ...] = ("attention", "ffn")

Modality = Literal["text", "image"]
MODALITIES: tuple[Modality, ...] = ("text", "image")
"""What items are made of, in the order in which a
pair of encoders lays their states side by side.
"""

LINEARS = ("query", "key", "value", "attention_out", "ffn_in", "ffn_out")
"""The names under which a block asks for its linears."""

NORMS = ("attention_norm", "ffn_norm")
"""The names under which a block asks for its layer norms."""

OUTSIDE = -1
"""The layer number of the layer norm `norm` outside the blocks:
before the first, or after the last one of images.
"""

States = Mapping[int, Tensor]
"""Hidden states by number: k is the input of block k,
and the number of blocks is the last block's output.
"""


class Encoder(Protocol):
    """What a kind may ask of an encoder whose weights it merges with its own."""

    def parts(self, layer: int) -> Mapping[str, nn.Module]:
        """Return a block's linears and layer norms under the
        names of `LINEARS` and `NORMS`; `norm` of `OUTSIDE`.
        """
        ...


class Adapt:
    """An adapter's answers to an encoder. This one adapts nothing.

    `reads` names the hidden states that `leave` wants; with `reads_tokens` it wants every token of
    the last one too, which an encoder that pools one position would otherwise not compute. `leaves`
    is how many states of an item `leave` returns. `packs` says that texts may stand side by side in
    one row (`transrec.packing`): false of a kind that adds tokens to a text or keys to an
    attention, or runs an attention of its own.
    """

    reads: frozenset[int] = frozenset()
    reads_tokens: bool = False
    leaves: int = 1
    packs: bool = True

    def part(self, _modality: Modality) -> Adapt:
        """Return what adapts one encoder of a pair."""
        return self

    def words(self, x: Tensor) -> Tensor:
        """Adapt the embeddings [n, T, H] of words,
        before positions are added and normalised, or of patches.
        """
        return x

    def enter(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Adapt the input of the first block [n,
        T, H] and its mask [n, T]; tokens may be added behind the last.
        """
        return x, mask

    def linear(self, _layer: int, _name: str, linear: nn.Module, x: Tensor) -> Tensor:
        """Run a block's linear on `x [..., in]`."""
        return linear(x)  # type: ignore[no-any-return]

    def norm(self, _layer: int, _name: str, norm: nn.Module, x: Tensor) -> Tensor:
        """Run a layer norm on `x [..., H]`."""
        return norm(x)  # type: ignore[no-any-return]

    def extend(
        self, _layer: int, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add keys and values, both [n, heads,
        T, H/heads], and the mask of what may be attended [n, 1, ., T].
        """
        return keys, values, mask

    def after(self, _layer: int, _place: Place, _x: Tensor, h: Tensor) -> Tensor:
        """Adapt a sublayer's output `h [...,
        H]` before the residual adds its input `x [..., H]`.
        """
        return h

    def leave(
        self, x: Tensor, _states: States, _mask: Tensor | None, pool: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Combine the last block's output `x [n, T, H]` with the states that were read, and pool
        it.

        Asked only of an adapter that reads states; `mask` is the one that attention used.
        """
        return pool(x)

    def vector(self, pooled: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        """Turn what an item encoder returned into item vectors [n,
        d]; `project` is the backbone's own way.
        """
        return project(pooled)

    def for_serving(self, _encoder: Encoder) -> Adapt:
        """Return an equal adapter in its cheapest form on this encoder,
        in the encoder's dtype and on its device.
        """
        return self


unchanged = Adapt()
