"""What an adapter may take of the memory and time that all domains share; asked of each upload,
before its weights.

The user side runs in the batch of every domain, so its limit is small. An operator who needs more
sets more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adapters_store.errors import BundleProblem
from service.settings import Settings
from transrec.adapters import AdapterSpec, measure_weights
from transrec.backbone import Backbone

MAX_TOKENS = 256
"""Learned tokens of a side: each is attended to by every token of an item,
or copied for every row of a batch.
"""


@dataclass(frozen=True, slots=True)
class AdapterBudget:
    """Bytes of float32 weights, in the form that serves, that one version may have."""

    whole: int
    user: int

    @classmethod
    def of(cls, settings: Settings) -> AdapterBudget:
        """Take the limits of the settings."""
        return cls(settings.max_adapter_bytes, settings.max_user_adapter_bytes)

    def find_excess(self, spec: AdapterSpec, backbone: Backbone) -> list[BundleProblem]:
        """Return what of a spec is over the limits; nothing is allocated.

        Raises:
            SpecError: a spec that does not fit the backbone.
        """
        return list(self._find_excess(spec, backbone))

    def _find_excess(self, spec: AdapterSpec, backbone: Backbone) -> Iterator[BundleProblem]:
        weights = measure_weights(spec, backbone.shape)
        user_most = max(self.user, _count_bytes(backbone))
        yield from _excess("user side", weights.user, user_most, "SWAPREC_MAX_USER_ADAPTER_BYTES")
        yield from _excess(
            "adapter", weights.item + weights.user, self.whole, "SWAPREC_MAX_ADAPTER_BYTES"
        )
        for side in ("item", "user"):
            tokens = (
                getattr(spec, side).tokens
                if getattr(spec, side).kind in ("prompt", "prefix")
                else 0
            )
            if tokens > MAX_TOKENS:
                detail = f"{side} side: {tokens} learned tokens, expected at most {MAX_TOKENS}"
                yield BundleProblem("too_large", detail, None, MAX_TOKENS, tokens)


def _excess(what: str, size: int, most: int, setting: str) -> Iterator[BundleProblem]:
    if size > most:
        detail = (
            f"{what}: {size} bytes of weights, this service allows {most}: "
            f"choose a smaller adapter, or ask its operator to raise {setting}"
        )
        yield BundleProblem("too_large", detail, None, most, size)


def _count_bytes(backbone: Backbone) -> int:
    """Return the bytes of the user encoder: an adapter that is as large only doubles the work."""
    return 4 * sum(weight.numel() for weight in backbone.model.user_encoder.parameters())
