"""Scores computed offline, in this process, with which answers of a service are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters_store.bundle import read_bundle
from benchmarks.setting import SPEC
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.embed import embed
from transrec.model import encode_users

K = 10
TOLERANCE = 1e-4
ItemScores = NDArray[np.float32]


class OfflineModel:
    """Scores of histories under every version, computed when a version is first needed."""

    def __init__(self, data: Path, items: int, histories: int) -> None:
        self._backbone = Backbone.load(data / "backbones" / "random")
        self._texts = [
            Content(f"title {number} {number * 7919 % items}") for number in range(items)
        ]
        rng = np.random.default_rng(0)
        self.histories = [
            rng.choice(items, rng.integers(1, 30), replace=False) for _ in range(histories)
        ]
        self._scores: dict[tuple[str, int], ItemScores] = {}

    def add(self, domain: str, version: int, bundle: Path) -> None:
        """Score a version's bundle."""
        adapter = Adapter.from_tensors(SPEC, self._backbone.shape, read_bundle(bundle).tensors)
        vectors = embed(self._backbone, self._texts, adapter, dtype="float32")
        users = encode_users(
            self._backbone.model.user_encoder, self.histories, vectors, adapter.user
        )
        table = users @ vectors.T
        for line, rows in zip(table, self.histories, strict=True):
            line[rows] = -np.inf
        self._scores[domain, version] = table

    def wrong(self, domain: str, place: int, answer: dict[str, object]) -> str | None:
        """Say what is wrong with an answer, None where nothing is."""
        version = answer["version"]
        scores = self._scores.get((domain, version))  # type: ignore[arg-type]
        if scores is None:
            return f"{domain} answered from version {version}, which was never activated"
        line = scores[place]
        best = np.argpartition(-line, K)[:K]
        best = best[np.argsort(-line[best], kind="stable")]
        rounding = 1e-5 * np.abs(line[np.isfinite(line)]).max()
        items: list[dict[str, object]] = answer["items"]  # type: ignore[assignment]
        rows = [int(str(item["item_id"]).removeprefix("item-")) for item in items]
        if len(set(rows)) != K:
            return f"{domain}@{version} answered {len(set(rows))} different items"
        for row, expected in zip(rows, best, strict=True):
            if abs(line[row] - line[expected]) > max(TOLERANCE * abs(line[expected]), rounding):
                return f"{domain}@{version} answered item-{row} where item-{expected} is better"
        return None
