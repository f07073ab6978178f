"""Fills a data folder with many compacted domains, quickly.

Catalogs are equal and adapters have no item side, so that one catalog is embedded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from adapters_store.bundle import Manifest, check_bundle, write_bundle
from adapters_store.store import Store
from benchmarks.setting import domain_name, prepare
from service.catalog.bases import Bases
from service.catalog.index import use_one_thread
from service.content.blobs import Blobs
from service.embedding.base_builder import BaseBuilder
from service.embedding.segments import KeyBytes, Segments, as_keys
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Prepared
from service.state import DomainRecord, StoredItem
from service.state.snapshots import Snapshots
from service.state.sqlite import SqliteState
from transrec.adapters import Adapter, AdapterSpec, expected_tensors
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.devices import Dtype, resolve_dtype
from transrec.embed import embed

SPEC = AdapterSpec.parse({"user": {"kind": "houlsby", "hidden": 16}})
DTYPE: Dtype = "float32"


def fill(folder: Path, domains: int, items: int, device: str = "cpu") -> None:
    """Fill a data folder with compacted domains, going on where it was interrupted.

    Args:
        folder: of the service.
        domains: how many.
        items: of each domain.
        device: that the service will run on: it decides in what dtype the frozen backbone embeds.
    """
    torch.set_num_threads(1)
    use_one_thread()
    prepare(folder, 0, items)
    making = DomainMaker.begin(folder, items, device)
    for number in range(domains):
        making.add(domain_name(number), seed=number)
        if (number + 1) % 100 == 0:
            print(f"{number + 1:,} domains are prepared", flush=True)
    making.state.close()


@dataclass(frozen=True, slots=True)
class DomainMaker:
    """A data folder on its way, and the catalog of all its domains, embedded in each dtype that is
    needed.

    `plain` is the dtype in which the frozen backbone embeds where the service runs.
    """

    folder: Path
    backbone: Backbone
    catalog: list[StoredItem]
    keys: KeyBytes
    vectors: dict[Dtype, Floats]
    plain: Dtype
    state: SqliteState
    store: Store
    builder: BaseBuilder

    @classmethod
    def begin(cls, folder: Path, items: int, device: str) -> DomainMaker:
        """Open the parts and embed the catalog."""
        backbone = Backbone.load(folder / "backbones" / "random", "cpu")
        catalog = [
            StoredItem(f"item-{number}", f"title {number} {number * 7919 % items}")
            for number in range(items)
        ]
        contents = [Content(item.text) for item in catalog]
        keys = as_keys([content.key() for content in contents])
        plain = resolve_dtype("auto", device)
        vectors = {dtype: embed(backbone, contents, dtype=dtype) for dtype in {DTYPE, plain}}
        state = SqliteState(folder)
        files = VectorFiles(folder / "vectors")
        kept = (
            Bases(folder / "bases"),
            files,
            Blobs(folder / "blobs"),
            Snapshots(folder / "snapshots"),
        )
        builder = BaseBuilder(state, *kept, lambda *_: None, least_for_index=0)
        return cls(
            folder,
            backbone,
            catalog,
            keys,
            vectors,
            plain,
            state,
            Store(folder / "adapters"),
            builder,
        )

    def add(self, name: str, seed: int) -> None:
        """Make a domain whose version is live and whose catalog is compacted; the base comes last.

        It has the vectors of the frozen backbone, too, which is what a rollback returns to.
        """
        self.state.put_domain(DomainRecord(name, self.backbone.fingerprint))
        record = self.state.get_domain(name)
        if self.builder.bases.generation(record) >= 0:
            return
        self.state.upsert_items(name, self.catalog)
        live = self._version(name, seed)
        none = Prepared(None, self.backbone.fingerprint, self.plain, None, 0)
        self.store.record_activation(name, live.version, "benchmark")
        for version in (live, none):
            place = self.folder / "vectors" / name / f"{version.digest[:32]}-{version.dtype}"
            Segments(place, self.backbone.config.width).add(self.keys, self.vectors[version.dtype])
        self.builder.build(record, self.backbone, [live, none], 0, lambda _: lambda *_: None)

    def _version(self, name: str, seed: int) -> Prepared:
        """Store an adapter of random weights."""
        shape = self.backbone.shape
        fingerprint = self.backbone.fingerprint
        expected = expected_tensors(SPEC, shape)
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            key: (torch.randn(size, generator=generator) * 0.1).numpy()
            for key, size in expected.items()
        }
        bundle = self.folder / "bundle.safetensors"
        write_bundle(bundle, Manifest(name, SPEC.kind, SPEC.to_json(), fingerprint, DTYPE), tensors)
        added = self.store.add(
            name, bundle, lambda found: check_bundle(found, expected, fingerprint)
        )
        adapter = Adapter.from_tensors(SPEC, shape, tensors)
        return Prepared(added.version, added.card.digest, DTYPE, adapter, 0)
