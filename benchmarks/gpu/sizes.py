"""How much each section does: on a GPU, and in a rehearsal on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_TOKENS = 30
"""Tokens to which titles are cut, as in the paper."""


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """Sizes of a BERT encoder with random weights."""

    layers: int
    hidden: int
    intermediate: int
    heads: int = 12

    def flops(self, tokens: int) -> int:
        """Return the floating-point operations of one text of so many tokens up to its CLS vector.

        A product of [m, k] by [k, n] counts 2 m k n. The last block needs its keys and values at
        every token, everything else at the first token only. Norms, GELU and softmax don't count.
        """
        keys_values = 2 * tokens * 2 * self.hidden**2
        one_query = 2 * 2 * self.hidden**2 + 4 * self.hidden * self.intermediate
        one_query += 4 * tokens * self.hidden
        whole = keys_values + tokens * one_query
        return (self.layers - 1) * whole + keys_values + one_query


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of all sections.

    Attributes:
        encoders: by name; the first one is measured against the bars.
        vocabulary: entries of the tokenizer.
        peak: m = n = k of the matrix product that measures the card's peak.
        titles: embedded in each round of the encoder section.
        rounds: pairs of runs, at most.
        forward_tokens: tokens of the batches whose forward is timed alone.
        items: of the catalog that is activated.
        equal_items, equal_users: compared between the CPU and the card.
        domains, domain_items: of the serving section, in-process.
        http_domains, http_items: of the serving section over HTTP.
        concurrency: requests in flight.
        serve_s: seconds that a load lasts.
        train_items, train_users: of the training log.
        steps: of each scheme, at most.
    """

    encoders: dict[str, EncoderSize] = field(
        default_factory=lambda: {
            "bert-base": EncoderSize(12, 768, 3072),
            "minilm": EncoderSize(6, 384, 1536),
        }
    )
    vocabulary: int = 30_522
    peak: int = 8192
    titles: int = 16_384
    rounds: int = 7
    forward_tokens: tuple[int, ...] = (4096, 16_384, 65_536)
    items: int = 100_000
    equal_items: int = 1000
    equal_users: int = 400
    domains: int = 1000
    domain_items: int = 5000
    http_domains: int = 1000
    http_items: int = 200
    concurrency: int = 256
    serve_s: float = 6.0
    train_items: int = 10_000
    train_users: int = 20_000
    steps: int = 12

    @property
    def main(self) -> str:
        """Name of the encoder that the bars are about."""
        return next(iter(self.encoders))


REAL = Sizes()
REHEARSAL = Sizes(
    encoders={"bert-base": EncoderSize(2, 48, 96, 2), "minilm": EncoderSize(1, 24, 48, 2)},
    vocabulary=2000,
    peak=256,
    titles=200,
    rounds=2,
    forward_tokens=(256, 512),
    items=1000,
    equal_items=60,
    equal_users=20,
    domains=20,
    domain_items=100,
    http_domains=8,
    http_items=50,
    concurrency=32,
    serve_s=0.5,
    train_items=200,
    train_users=200,
    steps=2,
)
