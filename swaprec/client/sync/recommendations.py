# Generated from ../asynchronous by `make fix`: change that one.
"""What is asked of a domain that answers: recommendations, neighbours, vectors, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.wire.responses import (
    Comparison,
    Embedded,
    Evaluated,
    Recommendation,
    Similar,
    VersionName,
)
from swaprec.client import calls
from swaprec.client.arguments import HistoryValue
from swaprec.client.calls import ArmFields
from swaprec.client.sync.connection import SyncConnection


class SyncRecommendations(SyncConnection):
    """Asks domains for answers, and evaluates them."""

    def recommend(
        self, domain: str, history: Sequence[HistoryValue], k: int = 10, **wishes: Any
    ) -> Recommendation:
        """Recommend `k` items to a history,
        oldest first; further fields of the request as keywords.
        """
        return self._do(calls.recommend(domain, history, k, wishes))

    def compare(
        self,
        domain: str,
        history: Sequence[HistoryValue],
        arms: Sequence[ArmFields] = (),
        k: int = 10,
        include: Sequence[str] = (),
    ) -> Comparison:
        """Answer one history by several arms,
        such as `{"version": 3}` or `{"strategy": "popular"}`.
        """
        return self._do(calls.compare(domain, history, arms, k, include))

    def similar(
        self, domain: str, query: HistoryValue, k: int = 10, include: Sequence[str] = ()
    ) -> Similar:
        """Find the `k` items nearest to one, or to `{"text": …}`, `{"image_b64": …}` or both."""
        return self._do(calls.similar(domain, query, k, include))

    def embed(self, domain: str, items: Sequence[HistoryValue]) -> Embedded:
        """Return vectors of items, texts and pictures under the live version."""
        return self._do(calls.embed(domain, items))

    def evaluate(self, domain: str, version: VersionName | None = None, k: int = 10) -> Evaluated:
        """Evaluate a version, the live one if none is named, on the domain's probes."""
        return self._do(calls.evaluate(domain, version, k))

    def put_probes(self, domain: str, probes: Sequence[Mapping[str, Any]]) -> int:
        """Replace a domain's held-out probes `{history, target}`; returns how many are kept."""
        return (self._do(calls.put_probes(domain, probes)))["probes"]

    def count_probes(self, domain: str) -> int:
        """Return how many probes are kept for a domain."""
        return (self._do(calls.count_probes(domain)))["probes"]
