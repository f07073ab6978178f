"""How a base is made: read the catalog, embed it under every version, tune an index, write it, take
a snapshot.

It runs where it is asked to: here for a small catalog, in the building process for a large one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.catalog.bases import Bases, BaseWriter, Catalog
from service.catalog.index import ExactIndex, Index, Tuned, TunedIndex
from service.catalog.live_items import LiveItems
from service.catalog.mapped import open_array
from service.catalog.verify import verify
from service.content.blobs import Blobs
from service.content.import_rows import Check
from service.content.item_reader import ItemReader
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Prepared
from service.errors import VerificationFailed
from service.state import DomainRecord, State, StoredItem
from service.state.snapshots import Snapshots
from service.version import version_name
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.model import encode_users
from transrec.progress import OnProgress, OnStage

QUERIES = 256
MIN_QUERIES = 50
PAGE_ITEMS = 20_000

MakeIndex = Callable[[Path, int, Floats, str, Path, Check], Tuned | None]
"""Builds an index: file of vectors,
rows, queries, what they are, where to; what the check raises ends it.
"""

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
        self,
        record: DomainRecord,
        backbone: Backbone,
        wanted: Sequence[Prepared],
        token: int,
        stage: OnStage,
    ) -> int:
        """Write a base of the catalog as it is now; returns its generation.

        The catalog is read in pages, so that what this takes beside ids and popularities does not
        grow with it. What changes between the pages is applied again by whoever uses the base.

        Args:
            record: the domain.
            backbone: that it runs.
            wanted: versions whose vectors are in it; the first must pass `service.catalog.verify`.
            token: of the job.
            stage: called with each stage; what it raises ends the build, and only vectors are left.

        Raises:
            VerificationFailed: the first version did not pass.
        """
        advance = stage("embed")
        catalog = self._read(record.name, lambda: advance(0, 0))
        with self.bases.writing(record, catalog, token, backbone.config.width) as base:
            self._embed(record.name, backbone, wanted, base, advance)
            advance = stage("index")
            if 0 < self.least_for_index <= base.recommendable:
                for prepared in wanted:
                    self._add_index(base, record, backbone, prepared, lambda: advance(0, 0))
            stage("verify")
            for prepared in wanted:
                self._verify(record.name, backbone, prepared, base, needed=prepared is wanted[0])
        self.bases.keep(record)
        if self.snapshots.generation(record) != catalog.generation:
            self.snapshots.take(self.state, record, catalog.generation)
        return catalog.generation

    def _read(self, domain: str, check: Check) -> Catalog:
        generation = self.state.generation(domain)
        ids: list[str] = []
        columns: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]] = []
        for page in self._pages(domain):
            check()
            ids += [item.item_id for _, item in page]
            rows = np.array([row for row, _ in page], np.int64)
            popularity = np.array([item.popularity for _, item in page], np.float64)
            columns.append(
                (rows, popularity, np.array([item.available for _, item in page], np.bool_))
            )
        none = np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.bool_)
        rows, popularity, available = map(np.concatenate, zip(none, *columns, strict=True))
        return Catalog(generation, rows, ids, popularity, available)

    def _pages(self, domain: str) -> Iterator[list[tuple[int, StoredItem]]]:
        after = -1
        while page := self.state.list_items(domain, after, PAGE_ITEMS):
            yield page
            after = page[-1][0]

    def _embed(
        self,
        domain: str,
        backbone: Backbone,
        wanted: Sequence[Prepared],
        base: BaseWriter,
        on_progress: OnProgress,
    ) -> None:
        """Fill in the vectors of every version,
        page by page; items that came after the ids were read are left out.
        """
        item_reader = ItemReader(backbone, self.blobs)
        known = base.catalog.rows
        matrices = [base.vectors(prepared.digest, prepared.dtype) for prepared in wanted]
        done = 0
        total = len(known) * len(wanted)
        for page in self._pages(domain):
            rows = np.array([row for row, _ in page], np.int64)
            found = np.searchsorted(known, rows)
            there = np.flatnonzero(np.isin(rows, known, assume_unique=True))
            contents = item_reader.contents_of(page[place][1] for place in there)
            for prepared, matrix in zip(wanted, matrices, strict=True):
                on_progress(done, total)
                vectors = self.vectors.complete(
                    domain, prepared, contents, backbone, _within(on_progress, done, total)
                )
                matrix[base.places[found[there]]] = vectors
                done += len(there)
        on_progress(total, total)

    def _verify(
        self, domain: str, backbone: Backbone, prepared: Prepared, base: BaseWriter, *, needed: bool
    ) -> None:
        matrix = _mapped(base, prepared)
        name = version_name(prepared.version)
        items = LiveItems.of(base.base(), matrix, self._index(base, prepared, matrix))
        side = None if prepared.adapter is None else prepared.adapter.user
        item_reader = ItemReader(backbone, self.blobs)

        def encode(histories: Sequence[Sequence[int]]) -> Floats:
            rows = [np.array(history, np.int64) for history in histories]
            return encode_users(backbone.model.user_encoder, rows, matrix, side)

        def contents(ids: Sequence[str]) -> list[Content]:
            return item_reader.contents_of(self.state.items_by_id(domain, ids).values())

        try:
            verify(str(name), items, encode, backbone.config.max_history, contents)
        except VerificationFailed as error:
            if needed:
                raise
            _log.warning("%s@%s cannot be activated: %s", domain, name, error)
        else:
            base.is_verified(prepared.digest, prepared.dtype)

    def _index(self, base: BaseWriter, prepared: Prepared, matrix: Floats) -> Index:
        path = base.index_path(prepared.digest, prepared.dtype)
        shown = matrix[: base.recommendable]
        tuned = base.indexes.get(path.name)
        return ExactIndex(shown) if tuned is None else TunedIndex(path, shown, tuned)

    def _add_index(
        self,
        base: BaseWriter,
        record: DomainRecord,
        backbone: Backbone,
        prepared: Prepared,
        check: Check,
    ) -> None:
        path = base.vectors_path(prepared.digest, prepared.dtype)
        queries, source = self._queries(base, record, backbone, prepared)
        out = base.index_path(prepared.digest, prepared.dtype)
        tuned = self.make_index(path, base.recommendable, queries, source, out, check)
        if tuned is not None:
            base.has_index(prepared.digest, prepared.dtype, tuned)
        _log.info("%s@%s: index %s", record.name, version_name(prepared.version), tuned or "exact")

    def _queries(
        self, base: BaseWriter, record: DomainRecord, backbone: Backbone, prepared: Prepared
    ) -> tuple[Floats, str]:
        """Return vectors to tune an index on,
        and what they are: users of the domain's probes, or its items.
        """
        matrix = _mapped(base, prepared)
        ids = base.base().ids
        window = backbone.config.max_history
        histories = []
        for probe in self.state.probes(record.name)[:QUERIES]:
            rows = ids.rows(probe.history)
            known = [rows[item_id] for item_id in probe.history if item_id in rows]
            if known:
                histories.append(np.array(known[-window:]))
        if len(histories) >= MIN_QUERIES:
            side = None if prepared.adapter is None else prepared.adapter.user
            return encode_users(backbone.model.user_encoder, histories, matrix, side), "probes"
        chosen = np.random.default_rng(0).choice(
            base.recommendable, min(QUERIES, base.recommendable), replace=False
        )
        return np.asarray(matrix[np.sort(chosen)]), "items"


def _mapped(base: BaseWriter, prepared: Prepared) -> Floats:
    path = base.vectors_path(prepared.digest, prepared.dtype)
    if not len(base.places):
        return np.zeros((0, base.width), np.float32)
    return open_array(path)


def _within(on_progress: OnProgress, done: int, total: int) -> OnProgress:
    """Report the progress of a part as progress of the whole."""
    return lambda some, _: on_progress(done + some, total)
