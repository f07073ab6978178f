"""Versions as the backbone of their domain reads them:
loaded from the store, and checked once more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters_store.bundle import Bundle, check_bundle, check_declaration
from adapters_store.errors import BundleError, BundleProblem
from adapters_store.store import Store
from service.content.blobs import Blobs
from service.content.item_reader import ItemReader
from service.content.pictures import PixelBudget
from service.embedding.adapter_budget import AdapterBudget
from service.engine.engine import Engine
from service.errors import BackboneNotFound
from service.state import DomainRecord, Domains
from service.version import Version
from transrec.adapters import Adapter, AdapterSpec, SpecError, expected_tensors
from transrec.devices import Dtype, resolve_dtype
from transrec.images import MAX_PIXELS

MAX_CACHED_VERSIONS = 32
MAX_CACHED_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version loaded from the store:
    adapter, digest, the dtype its items are embedded in, and its file.
    """

    version: Version
    digest: str
    dtype: Dtype
    adapter: Adapter | None
    adapter_bytes: int
    bundle: Path | None = None


class Versions:
    """Finds engines of domains, checks bundles against them,
    loads versions; keeps the last few, for single items.
    """

    def __init__(
        self,
        state: Domains,
        store: Store,
        blobs: Blobs,
        engines: Mapping[str, Engine],
        budget: AdapterBudget,
        max_image_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_image_pixels = max_image_pixels
        self._state = state
        self._store = store
        self._blobs = blobs
        self._engines = engines
        self._budget = budget
        self._loaded: OrderedDict[tuple[str, int], tuple[object, Prepared]] = OrderedDict()
        self._lock = threading.Lock()

    def check_upload(self, record: DomainRecord) -> Callable[[Bundle], list[BundleProblem]]:
        """Return what the store asks of a bundle that is uploaded to a domain: every problem that
        stands against it.

        The values of an adapter that is too large are not read. A version that was accepted stays
        usable when the limits are lowered.
        """
        backbone = self.engine(record).backbone

        def problems(bundle: Bundle) -> list[BundleProblem]:
            try:
                spec = AdapterSpec.parse(bundle.manifest.spec)
                excess = self._budget.find_excess(spec, backbone)
                expected = expected_tensors(spec, backbone.shape)
            except SpecError as error:
                return _spec_problems(error)
            if excess:
                return [*excess, *check_declaration(bundle, expected, backbone.fingerprint)]
            return check_bundle(bundle, expected, backbone.fingerprint)

        return problems

    def check(self, record: DomainRecord) -> Callable[[Bundle], list[BundleProblem]]:
        """Return what a stored version must be on the domain's backbone:
        every problem that stands against it.
        """
        backbone = self.engine(record).backbone

        def problems(bundle: Bundle) -> list[BundleProblem]:
            try:
                expected = expected_tensors(AdapterSpec.parse(bundle.manifest.spec), backbone.shape)
            except SpecError as error:
                return _spec_problems(error)
            return check_bundle(bundle, expected, backbone.fingerprint)

        return problems

    def engine(self, record: DomainRecord) -> Engine:
        """Return the engine of a domain's backbone.

        Raises:
            BackboneNotFound: this service has not loaded it.
        """
        engine = self._engines.get(record.backbone)
        if engine is None:
            loaded = ", ".join(fingerprint[:12] for fingerprint in self._engines) or "none"
            raise BackboneNotFound(
                f"domain {record.name!r} runs backbone {record.backbone[:12]}, loaded here:"
                f" {loaded}; name its folder in SWAPREC_BACKBONES"
            )
        return engine

    def item_reader(self, domain: str) -> ItemReader:
        """Return what turns rows that came in into items of a domain.

        Raises:
            DomainNotFound, BackboneNotFound.
        """
        return self.reader_of(self._state.get_domain(domain))

    def reader_of(self, record: DomainRecord) -> ItemReader:
        """Like `item_reader`, for a record that the caller has read already.

        Raises:
            BackboneNotFound.
        """
        backbone = self.engine(record).backbone
        return ItemReader(backbone, self._blobs, PixelBudget(self._max_image_pixels))

    def adapter(self, domain: str, version: Version) -> Adapter | None:
        """Read the adapter of a version from the store once more, for items that no catalog has.

        Raises:
            VersionNotFound: it was deleted meanwhile; BundleError: it is damaged.
        """
        return self.load(self._state.get_domain(domain), version).adapter

    def load(self, record: DomainRecord, version: Version) -> Prepared:
        """Read a version and check it against the backbone, once more: the backbone may be another
        one now.

        Raises:
            VersionNotFound; BundleError: it is damaged, or does not fit; BackboneNotFound.
        """
        backbone = self.engine(record).backbone
        if version is None:
            return Prepared(
                None, backbone.fingerprint, resolve_dtype("auto", backbone.device), None, 0
            )
        key = (record.name, version)
        seen = self._signature(record, version)
        with self._lock:
            known = self._loaded.get(key)
            if known is not None and known[0] == seen:
                self._loaded.move_to_end(key)
                return known[1]
        prepared = self._read(record, version)
        with self._lock:
            self._loaded[key] = seen, prepared
            while len(self._loaded) > 1 and self._keeps_too_much():
                self._loaded.popitem(last=False)
        return prepared

    def _keeps_too_much(self) -> bool:
        size = sum(prepared.adapter_bytes for _, prepared in self._loaded.values())
        return len(self._loaded) > MAX_CACHED_VERSIONS or size > MAX_CACHED_BYTES

    def let_go(self, domain: str) -> None:
        """Forget the versions of a domain."""
        with self._lock:
            for key in [key for key in self._loaded if key[0] == domain]:
                del self._loaded[key]

    def _signature(self, record: DomainRecord, version: int) -> object:
        """Tell a file from one that was put in its place."""
        about = self._store.bundle_path(record.name, version).stat()
        return record.backbone, record.incarnation, about.st_ino, about.st_size, about.st_mtime_ns

    def _read(self, record: DomainRecord, version: int) -> Prepared:
        backbone = self.engine(record).backbone
        bundle = self._store.open(record.name, version)
        problems = self.check(record)(bundle)
        if problems:
            raise BundleError(problems)
        spec = AdapterSpec.parse(bundle.manifest.spec)
        adapter = Adapter.from_tensors(spec, backbone.shape, bundle.tensors).to(backbone.device)
        size = sum(values.nbytes for values in bundle.tensors.values())
        dtype = resolve_dtype(bundle.manifest.dtype, backbone.device)
        return Prepared(
            version,
            bundle.digest,
            dtype,
            adapter,
            size,
            self._store.bundle_path(record.name, version),
        )

    def identify(self, record: DomainRecord, version: Version) -> tuple[str, Dtype]:
        """Return digest and dtype of a version without reading its weights.

        Raises:
            VersionNotFound, BackboneNotFound; BundleError: its card is damaged.
        """
        backbone = self.engine(record).backbone
        if version is None:
            return backbone.fingerprint, resolve_dtype("auto", backbone.device)
        card = self._store.card(record.name, version)
        if not card.digest or not card.dtype:
            detail = f"the card of {record.name}@{version} is damaged: {', '.join(card.damaged)}"
            raise BundleError([BundleProblem("digest", f"{detail}: upload the bundle again")])
        return card.digest, resolve_dtype(card.dtype, backbone.device)


def _spec_problems(error: SpecError) -> list[BundleProblem]:
    return [BundleProblem("manifest", f"manifest: spec: {problem}") for problem in error.problems]
