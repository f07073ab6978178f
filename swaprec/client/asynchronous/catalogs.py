"""Domains and their items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from service.wire.responses import Domain, ImportReport, Item
from swaprec.client import calls
from swaprec.client.asynchronous.connection import AsyncConnection
from swaprec.client.calls import OnJob
from swaprec.client.sending import AsyncItemRows, RowFields, Sending


class AsyncCatalogs(AsyncConnection):
    """Creates, changes and deletes domains and items."""

    async def put_domain(self, domain: str, title: str = "", backbone: str | None = None) -> Domain:
        """Create a domain or change its title."""
        return await self._do(calls.put_domain(domain, title, backbone))

    async def domains(self) -> list[Domain]:
        """List domains."""
        return (await self._do(calls.domains()))["items"]

    async def domain(self, name: str) -> Domain:
        """Show a domain."""
        return await self._do(calls.domain(name))

    async def delete_domain(self, name: str) -> None:
        """Delete a domain with all that belongs to it."""
        await self._do(calls.delete_domain(name))

    async def import_items(
        self,
        domain: str,
        items: AsyncItemRows,
        on_job: OnJob | None = None,
    ) -> ImportReport:
        """Stream items to a domain; returns the report once all of them are searchable.

        What a row does not name of an item stays as it is stored; None gives it its default. Rows
        that cannot be stored, or not even sent, are in the report.

        Raises:
            TypeError: `items` holds no rows; nothing was sent.
        """
        sending = Sending(items)
        job = await self.wait(
            await self._do(calls.import_items(domain, sending.chunks_async())), on_job
        )
        report: Any = job["result"]
        return sending.complete(report)

    async def items(self, domain: str, limit: int = 100) -> AsyncIterator[Item]:
        """Yield a domain's items, page by page."""
        cursor: str | None = None
        while True:
            page = await self._do(calls.items(domain, limit, cursor))
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def item(self, domain: str, item_id: str) -> Item:
        """Show an item."""
        return await self._do(calls.item(domain, item_id))

    async def put_item(self, domain: str, item_id: str, item: RowFields) -> Item:
        """Add or replace an item; searchable when this returns."""
        return await self._do(calls.put_item(domain, item_id, item))

    async def patch_item(self, domain: str, item_id: str, changes: RowFields) -> Item:
        """Change some fields of an item; None takes one away."""
        return await self._do(calls.patch_item(domain, item_id, changes))

    async def delete_item(self, domain: str, item_id: str) -> None:
        """Delete an item: it is gone from the next answer."""
        await self._do(calls.delete_item(domain, item_id))
