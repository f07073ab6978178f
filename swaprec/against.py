"""`swaprec evaluate --against URL`: the trainer's numbers, asked of the running service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from service.wire.responses import Recommendation, RecommendedItem
from swaprec.client import Client
from swaprec.errors import Stop
from training.data import Dataset
from transrec.metrics import Ranks, summarise, tie_margin

CONNECTIONS = 4
ASKED = 60
"""Longer than 10, so that a group of ties that crosses the tenth place is seen whole."""
AGREES = 0.001
MAX_HISTORY = 1000
MAX_K = 500
"""What the service takes. Of a longer history the next thousand are excluded by name, what is older
still is dropped from a longer answer."""


@dataclass(frozen=True, slots=True)
class OfflineComparison:
    """Both sides' summaries; `difference` is the larger of HR@10's and NDCG@10's."""

    offline: dict[str, float]
    served: dict[str, float]

    @property
    def difference(self) -> float:
        """How far the two sides are apart, the tied rows at best and at worst included."""
        names = [
            f"{measure}{bound}"
            for measure in ("hr", "ndcg")
            for bound in ("", "_optimistic", "_pessimistic")
        ]
        return max(abs(self.offline[name] - self.served[name]) for name in names)

    @property
    def agrees(self) -> bool:
        """Whether they are the same to 0.001."""
        return self.difference <= AGREES


def compare(
    offline: dict[str, float],
    dataset: Dataset,
    client: Client,
    domain: str,
    digest: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> OfflineComparison:
    """Ask the service for every held-out user and rank the targets by its answers.

    Args:
        offline: the trainer's summary of the same split.
        dataset: what it was measured on.
        client: of the service.
        domain: asked.
        digest: of the bundle (or the backbone's fingerprint) that must be live there.
        on_progress: called with (users done, users in all).

    Raises:
        Stop: another version is live, or becomes it meanwhile, or the service lacks items of the
            data set.
    """
    split = dataset.split()
    known = split.history("test")
    targets = split.test
    ids = dataset.item_ids
    better = np.zeros(len(targets), np.int64)
    ties = np.zeros(len(targets), np.int64)

    def ask(user: int) -> None:
        history = [ids[row] for row in known[user]]
        oldest = set(history[: -2 * MAX_HISTORY])
        older = {"seen": True, "item_ids": history[-2 * MAX_HISTORY : -MAX_HISTORY]}
        k = min(ASKED + len(oldest), MAX_K)
        answer = client.recommend(domain, history[-MAX_HISTORY:], k=k, exclude=older)
        _check(answer, domain, digest)
        items = [item for item in answer["items"] if item["item_id"] not in oldest]
        better[user], ties[user] = _place(items, ids[targets[user]])

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done, _ in enumerate(pool.map(ask, range(len(targets))), 1):
            if on_progress is not None:
                on_progress(done, len(targets))
    return OfflineComparison(offline, summarise(Ranks(better, ties), split.repeated("test")))


def _check(answer: Recommendation, domain: str, digest: str) -> None:
    """Refuse an answer that says nothing about the bundle:
    another version's, or one of another catalog.
    """
    if answer["digest"] != digest:
        raise Stop(
            f"{domain} answers from version {answer['version']} ({answer['digest'][:12]}), "
            f"the run's bundle is {digest[:12]}",
            "swaprec push BUNDLE --activate",
        )
    if answer["unknown_items"] or answer["fallback"]["used"]:
        missing = ", ".join(answer["unknown_items"][:3]) or answer["fallback"]["reason"]
        raise Stop(
            f"{domain} does not serve the data set's catalog: items that it lacks begin with"
            f" {missing}",
            "swaprec push RUN --catalog loads the catalog of the run",
        )


def _place(items: Sequence[RecommendedItem], target: str) -> tuple[int, int]:
    """How many better and equal items the answer shows;
    a target that is not in it is a miss, however short it is.
    """
    found = next((item for item in items if item["item_id"] == target), None)
    if found is None or found["score"] is None:
        return max(len(items), ASKED), 0
    scores = np.array([item["score"] for item in items], np.float64)
    score = found["score"]
    margin = tie_margin(score)
    better = int((scores > score + margin).sum())
    return better, int((scores >= score - margin).sum()) - better - 1
