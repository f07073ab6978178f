"""Values that may go live: found ready, or built beside what answers, and verified."""

from __future__ import annotations

from collections.abc import Sequence

from service.catalog.bases import Bases
from service.catalog.verify import check_finite, find_living_rows, verify
from service.content.item_reader import ItemReader
from service.embedding.versions import Versions
from service.errors import RequestConflict
from service.jobs import Progress
from service.live.compaction import Compactor
from service.live.opening import DAMAGE_ERRORS, NotBuilt
from service.live.reconcile import Reconciler
from service.live.table import LiveDomain, LiveTable
from service.state import DomainRecord, Items
from service.version import Version, version_name
from transrec.content import Content

BUILD_ATTEMPTS = 4


class Candidates:
    """Makes values of versions that are not live yet."""

    def __init__(
        self,
        state: Items,
        live: LiveTable,
        versions: Versions,
        bases: Bases,
        reconciler: Reconciler,
        compactor: Compactor,
    ) -> None:
        self._state = state
        self._live = live
        self._versions = versions
        self._bases = bases
        self._reconciler = reconciler
        self._compactor = compactor

    def find_ready(self, record: DomainRecord, version: Version) -> LiveDomain | None:
        """Return the value of a version that can answer now;
        None where a job must come before.
        """
        deployment = self._live.find(record.name)
        if deployment is None:
            return None
        try:
            digest, dtype = self._versions.identify(record, version)
            for value in deployment.warm:
                if (value.digest, value.dtype) == (digest, dtype) and not value.items.incomplete:
                    return value
            ready = self._bases.holds(record, digest, dtype)
            return self._reconciler.open_candidate(record, version) if ready else None
        except (NotBuilt, *DAMAGE_ERRORS):  # a job builds it, or says what is wrong with it
            return None

    def find_digest(self, record: DomainRecord, version: Version) -> str:
        """Return the digest of a version without reading its weights."""
        return self._versions.identify(record, version)[0]

    def build(self, record: DomainRecord, version: Version, progress: Progress) -> LiveDomain:
        """Return the value that is to go live, with everything in it that the catalog has now.

        What changes while it is built is built again, which is ever less.

        Raises:
            RequestConflict: the catalog changes faster than it is embedded.
        """
        for _ in range(BUILD_ATTEMPTS):
            try:
                return self._reconciler.open_candidate(record, version)
            except NotBuilt:
                self._compactor.build(record, version, progress)
        try:
            return self._reconciler.open_candidate(record, version)
        except NotBuilt:
            raise RequestConflict(
                f"the catalog of {record.name} changes faster than it is embedded under"
                f" {version_name(version)}: activate it when the import is done"
            ) from None

    def verify(self, value: LiveDomain) -> None:
        """Check what was not checked when the base was built,
        so that requests need not wait for it.
        """
        name = version_name(value.version)
        items = value.items
        if self._bases.verified(items.base, value.digest, value.dtype):
            late = find_living_rows(items)
            check_finite(str(name), items, late[late >= len(items.base.ids)])
            return
        item_reader = self._versions.item_reader(value.domain)
        window = value.engine.backbone.config.max_history
        verify(
            str(name),
            items,
            value.encode,
            window,
            lambda ids: self._read_contents(item_reader, value.domain, ids),
        )

    def _read_contents(
        self, item_reader: ItemReader, domain: str, ids: Sequence[str]
    ) -> list[Content]:
        return item_reader.contents_of(self._state.items_by_id(domain, ids).values())
