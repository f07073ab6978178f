"""What clients do with items of a catalog: put, patch, import; at once, or as jobs.

Every change is for the domain as the client found it: `begin` gives its incarnation before the body
is read, and a later domain of the name does not get what was sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from service.content.import_rows import RowReport
from service.content.pictures import PictureThreads
from service.embedding.versions import Versions
from service.errors import InvalidRequest
from service.ingest.imports import ImportRun, Imports
from service.ingest.writer import CatalogWriter
from service.live.table import Deployment, LiveTable
from service.state import Domains, JobRecord, StoredItem
from service.wire.requests import ItemBody, ItemPatch

T = TypeVar("T")


class CatalogEditor:
    """Changes catalogs; its methods are called on the event loop, and work in threads.

    Args:
        live: the domains that answer.
        state: keeps domains and items.
        versions: know what a domain's backbone reads.
        writer: stores items and makes them searchable.
        imports: imports bodies, now or as jobs.
        pictures: threads for what unpacks pictures.
    """

    def __init__(
        self,
        live: LiveTable,
        state: Domains,
        versions: Versions,
        writer: CatalogWriter,
        imports: Imports,
        pictures: PictureThreads,
    ) -> None:
        self._live = live
        self._state = state
        self._versions = versions
        self._writer = writer
        self._imports = imports
        self._pictures = pictures

    async def begin(self, domain: str) -> Deployment:
        """Return what a domain answers from: what cannot be searched is not stored.

        Raises:
            DomainNotFound, DomainLoading.
        """
        return await run_in_threadpool(self._live.get, domain)

    async def put_item(
        self, domain: str, item: ItemBody, incarnation: str
    ) -> tuple[StoredItem, bool]:
        """Store an item and make it searchable; return it, and whether it is new.

        Raises:
            InvalidRequest: nothing that the backbone reads; what `CatalogWriter.upsert` raises.
        """
        run = self._runner(domain, item.image_b64)
        return await run(partial(self._put, domain, item, incarnation))

    async def queue_item(self, domain: str, item: ItemBody, incarnation: str) -> JobRecord:
        """Check an item, and queue a job that stores it.

        Raises:
            InvalidRequest; what `Imports.submit_item` raises.
        """
        run = self._runner(domain, item.image_b64)
        await run(partial(self._check, domain, item))
        return await run_in_threadpool(self._imports.submit_item, domain, item, incarnation)

    async def patch_item(
        self, domain: str, item_id: str, patch: ItemPatch, incarnation: str
    ) -> StoredItem:
        """Change the fields of an item that a patch names; return it as it is stored then.

        Raises:
            ItemNotFound; InvalidRequest; what `CatalogWriter.change` raises.
        """
        run = self._runner(domain, patch.image_b64)
        return await run(partial(self._patch, domain, item_id, patch, incarnation))

    async def queue_patch(
        self, domain: str, item_id: str, patch: ItemPatch, incarnation: str
    ) -> JobRecord:
        """Check a patch, and queue a job that applies it.

        Raises:
            ItemNotFound; InvalidRequest; OutOfSpace; TooManyAtOnce.
        """
        run = self._runner(domain, patch.image_b64)
        await run(partial(self._check_patch, domain, item_id, patch))
        return await run_in_threadpool(
            self._imports.submit_patch, domain, item_id, patch, incarnation
        )

    async def import_now(self, domain: str, spooled: Path, deployment: Deployment) -> RowReport:
        """Import a body; it is searchable then.

        Raises:
            MalformedBody: an array that is no JSON; what `CatalogWriter.upsert` raises.
        """
        live = deployment.live
        run = ImportRun(incarnation=live.incarnation)
        work = partial(self._imports.run, domain, spooled, run)
        if "image" in live.engine.backbone.config.modalities:
            return await self._pictures.run_of(domain, work)
        return await run_in_threadpool(work)

    def _put(self, domain: str, body: ItemBody, incarnation: str) -> tuple[StoredItem, bool]:
        record = self._state.get_domain(domain)
        item_reader = self._versions.reader_of(record)
        item = _readable(partial(item_reader.item, body))
        item_reader.settle()
        stored = self._writer.upsert(domain, [item], incarnation=incarnation, record=record)
        return item, bool(stored.accepted)

    def _check(self, domain: str, item: ItemBody) -> None:
        item_reader = self._versions.item_reader(domain)
        _readable(partial(item_reader.item, item))

    def _patch(self, domain: str, item_id: str, patch: ItemPatch, incarnation: str) -> StoredItem:
        change = self._versions.item_reader(domain).bind_patch(patch)
        self._writer.change(
            domain, item_id, lambda before: _readable(partial(change, before)), incarnation
        )
        return self._writer.get(domain, item_id)

    def _check_patch(self, domain: str, item_id: str, patch: ItemPatch) -> None:
        before = self._writer.get(domain, item_id)
        item_reader = self._versions.item_reader(domain)
        _readable(partial(item_reader.patched, before, patch))

    def _runner(
        self, domain: str, picture: str | None
    ) -> Callable[[Callable[[], T]], Awaitable[T]]:
        """Return what calls in a thread: one of those for pictures, if there is a picture."""
        return run_in_threadpool if picture is None else partial(self._pictures.run_of, domain)


def _readable(make: Callable[[], T]) -> T:
    """Return what is made of a body; what the backbone cannot read is the client's error."""
    try:
        return make()
    except ValueError as error:
        raise InvalidRequest(str(error), [{"loc": ["body"], "msg": str(error)}]) from error
