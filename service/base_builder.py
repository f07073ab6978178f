"""How a base is made: read the catalog, embed it under every version, tune an index, write it, take a snapshot.

It runs where it is asked to: here for a small catalog, in the building process for a large one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.bases import Bases, BaseWriter
from service.blobs import Blobs
from service.index import Tuned
from service.intake import Intake
from service.live import version_name
from service.snapshots import Snapshots
from service.state import DomainRecord, State
from service.vectors import VectorFiles
from service.versions import Prepared
from transrec.backbone import Backbone
from transrec.model import encode_users

QUERIES, LEAST_QUERIES = 256, 50

Floats = NDArray[np.float32]
Stage = Callable[[str], Callable[[int, int], None]]
"""Told of each stage; returns what is told (done, total)."""
MakeIndex = Callable[[Path, int, Floats, str, Path], Tuned | None]
"""Builds an index: file of vectors, rows, queries, what they are, where to."""

_log = logging.getLogger("swaprec")


@dataclass(frozen=True, slots=True)
class BaseBuilder:
    """What building takes; catalogs of `least_for_index` items get an index, if that is not 0."""

    state: State
    bases: Bases
    vectors: VectorFiles
    blobs: Blobs
    snapshots: Snapshots
    make_index: MakeIndex
    least_for_index: int

    def build(
        self, record: DomainRecord, backbone: Backbone, wanted: Sequence[Prepared], token: int, stage: Stage
    ) -> int:
        """Write a base of the catalog as it is now; returns its generation.

        Args:
            record: the domain.
            backbone: that it runs.
            wanted: versions whose vectors are in it.
            token: of the job.
            stage: told how far it is; what it raises ends the building, and nothing is left but vectors.
        """
        rows = self.state.catalog(record.name)
        contents = Intake(backbone, self.blobs).contents(rows.texts, rows.images)
        with self.bases.writing(record, rows, token, backbone.config.width) as base:
            ordered = [contents[place] for place in base.order]
            for prepared in wanted:
                out = base.vectors(prepared.digest, prepared.dtype)
                self.vectors.complete(record.name, prepared, ordered, backbone, stage("embed"), out)
            stage("index")
            if 0 < self.least_for_index <= base.recommendable:
                for prepared in wanted:
                    self._add_index(base, record, backbone, prepared)
        if self.snapshots.generation(record.name) != rows.generation:
            self.snapshots.take(self.state, record, rows.generation)
        return rows.generation

    def _add_index(self, base: BaseWriter, record: DomainRecord, backbone: Backbone, prepared: Prepared) -> None:
        path = base.vectors_path(prepared.digest, prepared.dtype)
        queries, source = self._queries(base, record, backbone, prepared)
        out = base.index_path(prepared.digest, prepared.dtype)
        tuned = self.make_index(path, base.recommendable, queries, source, out)
        if tuned is not None:
            base.has_index(prepared.digest, prepared.dtype, tuned)
        _log.info("%s@%s: index %s", record.name, version_name(prepared.version), tuned or "exact")

    def _queries(
        self, base: BaseWriter, record: DomainRecord, backbone: Backbone, prepared: Prepared
    ) -> tuple[Floats, str]:
        """Return vectors to tune an index on, and what they are: users of the domain's probes, or its items."""
        matrix = np.load(base.vectors_path(prepared.digest, prepared.dtype), mmap_mode="r")
        ids, window, histories = base.ids(), backbone.config.max_history, []
        for probe in self.state.probes(record.name)[:QUERIES]:
            rows = ids.rows(probe.history)
            known = [rows[item_id] for item_id in probe.history if item_id in rows]
            if known:
                histories.append(np.array(known[-window:]))
        if len(histories) >= LEAST_QUERIES:
            side = None if prepared.adapter is None else prepared.adapter.user
            return encode_users(backbone.model.user_encoder, histories, matrix, side), "probes"
        chosen = np.random.default_rng(0).choice(base.recommendable, min(QUERIES, base.recommendable), replace=False)
        return np.asarray(matrix[np.sort(chosen)]), "items"
