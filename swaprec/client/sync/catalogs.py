# Generated from ../asynchronous by `make fix`: change that one.
"""Domains and their items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.wire.responses import Domain, ImportReport, Item
from swaprec.client import calls
from swaprec.client.calls import OnJob
from swaprec.client.sending import ItemRows, RowFields, Sending
from swaprec.client.sync.connection import SyncConnection


class SyncCatalogs(SyncConnection):
    """Creates, changes and deletes domains and items."""

    def put_domain(self, domain: str, title: str = "", backbone: str | None = None) -> Domain:
        """Create a domain or change its title."""
        return self._do(calls.put_domain(domain, title, backbone))

    def domains(self) -> list[Domain]:
        """List domains."""
        return (self._do(calls.domains()))["items"]

    def domain(self, name: str) -> Domain:
        """Show a domain."""
        return self._do(calls.domain(name))

    def delete_domain(self, name: str) -> None:
        """Delete a domain with all that belongs to it."""
        self._do(calls.delete_domain(name))

    def import_items(
        self,
        domain: str,
        items: ItemRows,
        on_job: OnJob | None = None,
    ) -> ImportReport:
        """Stream items to a domain; returns the report once all of them are searchable.

        What a row does not name of an item stays as it is stored; None gives it its default. Rows
        that cannot be stored, or not even sent, are in the report.

        Raises:
            TypeError: `items` holds no rows; nothing was sent.
        """
        sending = Sending(items)
        job = self.wait(self._do(calls.import_items(domain, sending.chunks())), on_job)
        report: Any = job["result"]
        return sending.complete(report)

    def items(self, domain: str, limit: int = 100) -> Iterator[Item]:
        """Yield a domain's items, page by page."""
        cursor: str | None = None
        while True:
            page = self._do(calls.items(domain, limit, cursor))
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def item(self, domain: str, item_id: str) -> Item:
        """Show an item."""
        return self._do(calls.item(domain, item_id))

    def put_item(self, domain: str, item_id: str, item: RowFields) -> Item:
        """Add or replace an item; searchable when this returns."""
        return self._do(calls.put_item(domain, item_id, item))

    def patch_item(self, domain: str, item_id: str, changes: RowFields) -> Item:
        """Change some fields of an item; None takes one away."""
        return self._do(calls.patch_item(domain, item_id, changes))

    def delete_item(self, domain: str, item_id: str) -> None:
        """Delete an item: it is gone from the next answer."""
        self._do(calls.delete_item(domain, item_id))
