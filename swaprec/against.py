"""`swaprec evaluate --against URL`: the trainer's numbers, asked of the running service."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from swaprec.client import Client
from swaprec.errors import Stop
from training.data import Dataset
from transrec.metrics import Ranks, summarise, tie_margin

CONNECTIONS = 4
ASKED = 60
"""Longer than 10, so that a group of ties that crosses the tenth place is seen whole."""
AGREES = 0.001
MAX_HISTORY = 1000
"""What the service takes as a history; what is older is excluded by name."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides' summaries; `difference` is the larger of HR@10's and NDCG@10's."""

    offline: dict[str, float]
    served: dict[str, float]

    @property
    def difference(self) -> float:
        """How far the two sides are apart, the tied rows at best and at worst included."""
        names = [f"{measure}{bound}" for measure in ("hr", "ndcg") for bound in ("", "_optimistic", "_pessimistic")]
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
    told: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Ask the service for every held-out user and rank the targets by its answers.

    Args:
        offline: the trainer's summary of the same split.
        dataset: what it was measured on.
        client: of the service.
        domain: asked.
        digest: of the bundle (or the backbone's fingerprint) that must be live there.
        told: told (users done, users in all).

    Raises:
        Stop: another version is live, or it changes meanwhile.
    """
    split = dataset.split()
    known, targets, ids = split.history("test"), split.test, dataset.item_ids
    better, ties = np.zeros(len(targets), np.int64), np.zeros(len(targets), np.int64)

    def ask(user: int) -> None:
        history = [ids[row] for row in known[user]]
        older = {"seen": True, "item_ids": history[:-MAX_HISTORY]}
        answer = client.recommend(domain, history[-MAX_HISTORY:], k=ASKED, exclude=older)
        if answer["digest"] != digest:
            raise Stop(
                f"{domain} answers from version {answer['version']} ({answer['digest'][:12]}), "
                f"the run's bundle is {digest[:12]}",
                "swaprec push BUNDLE --activate",
            )
        better[user], ties[user] = _place(answer["items"], ids[targets[user]])

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done, _ in enumerate(pool.map(ask, range(len(targets))), 1):
            if told is not None:
                told(done, len(targets))
    return Comparison(offline, summarise(Ranks(better, ties), split.repeated("test")))


def _place(items: list[dict[str, object]], target: str) -> tuple[int, int]:
    """How many better and equal items the answer shows; one that is not in it ranks behind all of it."""
    found = next((item for item in items if item["item_id"] == target), None)
    if found is None:
        return len(items), 0
    scores = np.array([item["score"] for item in items], np.float64)
    score = float(found["score"])  # type: ignore[arg-type]
    margin = tie_margin(score)
    better = int((scores > score + margin).sum())
    return better, int((scores >= score - margin).sum()) - better - 1
