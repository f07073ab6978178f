"""Catalog changes: embedded by the process that takes them, stored, and searchable before the
answer.

An item is embedded before it is stored, under every version that is warm: who reads of it in the
feed then finds the vector, and no other process embeds it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from adapters_store.store import Store
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Versions
from service.errors import ItemNotFound, RequestConflict
from service.live.opening import DAMAGE_ERRORS
from service.live.reconcile import Reconciler
from service.live.table import LiveTable
from service.state import (
    Catalogs,
    Deleted,
    DomainRecord,
    StoredItem,
    Upserted,
    Visibility,
)
from service.state.fence import fence

CHANGE_ATTEMPTS = 8
TRANSACTION_ROWS = 1000


RetryUntilAvailable = Callable[[Callable[[], Any]], Any]
Renew = Callable[[Sequence[StoredItem]], list[StoredItem]]


class CatalogWriter:
    """Adds, changes and deletes items."""

    def __init__(
        self,
        state: Catalogs,
        store: Store,
        live: LiveTable,
        versions: Versions,
        vectors: VectorFiles,
        reconciler: Reconciler,
    ) -> None:
        self._state = state
        self._store = store
        self._live = live
        self._versions = versions
        self._vectors = vectors
        self._reconciler = reconciler

    def upsert(
        self,
        domain: str,
        items: Sequence[StoredItem],
        *,
        search: bool = True,
        retry_until_available: RetryUntilAvailable = lambda call: call(),
        check: Callable[[], None] = lambda: None,
        incarnation: str = "",
        renew: Renew = list,
        record: DomainRecord | None = None,
    ) -> Upserted:
        """Embed and store items, a thousand in one transaction, and make them searchable here.

        Args:
            domain: whose items.
            items: that are new or changed.
            search: False leaves that to a compaction.
            retry_until_available: repeats a call while state is unavailable, so that nothing is
                counted twice.
            check: called between steps; what it raises ends the upsert, before the next thousand
                are stored.
            incarnation: of the domain that they are for; a later one of its name does not get them.
            renew: returns items as they are to be stored, from those that were embedded; asked just
                before.
            record: of the domain, where the caller has just read it.

        Raises:
            DomainNotFound; BundleError: the live version is damaged; StateUnavailable; OutOfSpace.
        """
        if record is None:
            record = retry_until_available(partial(self._state.get_domain, domain))
        incarnation = incarnation or record.incarnation
        retry_until_available(partial(self._embed, record, items, check))
        stored = Upserted(0, 0, 0, 0)
        visibility = self._visibility(domain, search=search)
        for start in range(0, len(items), TRANSACTION_ROWS):
            check()
            some = items[start : start + TRANSACTION_ROWS]
            stored = stored.and_then(
                retry_until_available(
                    partial(self._store_some, domain, some, visibility, renew, incarnation)
                )
            )
        if search and (stored.accepted or stored.updated or visibility == "all"):
            retry_until_available(partial(self._reconciler.reconcile, domain))
        return stored

    def _store_some(
        self,
        domain: str,
        items: Sequence[StoredItem],
        visibility: Visibility,
        renew: Renew,
        incarnation: str,
    ) -> Upserted:
        return self._state.upsert_items(domain, renew(items), visibility, incarnation)

    def _visibility(self, domain: str, *, search: bool) -> Visibility:
        """Return which rows are reported:
        all of them while something waits for a base, as unchanged items may.
        """
        if not search:
            return "later"
        deployment = self._live.find(domain)
        return "all" if deployment is None or deployment.live.items.incomplete else "changed"

    def change(
        self,
        domain: str,
        item_id: str,
        changed: Callable[[StoredItem], StoredItem],
        incarnation: str = "",
    ) -> Upserted:
        """Change a stored item; what somebody else changes at the same time is not lost.

        Raises:
            ItemNotFound; RequestConflict: others change it again and again; what `upsert` raises.
        """
        record = self._state.get_domain(domain)
        incarnation = incarnation or record.incarnation
        for _ in range(CHANGE_ATTEMPTS):
            before = self.get(domain, item_id)
            after = changed(before)
            if after == before and self._visibility(domain, search=True) == "changed":
                return Upserted(0, 0, 1, 0)
            self._embed(record, [after])
            stored: Upserted | None
            if after == before:  # it may have come with an import, and wait for a base
                stored = self._state.upsert_items(domain, [after], "all", incarnation)
            else:
                stored = self._state.replace_item(domain, before, after, incarnation)
            if stored is not None:
                self._reconciler.reconcile(domain)
                return stored
        raise RequestConflict(f"item {item_id!r} of {domain} is being changed by others: try again")

    def delete(self, domain: str, ids: Sequence[str]) -> Deleted:
        """Delete items; they are in no answer of this process from here on.

        Raises:
            DomainNotFound, StateUnavailable.
        """
        deleted = self._state.delete_items(domain, ids)
        if deleted.deleted:
            self._reconciler.reconcile(domain)
        return deleted

    def get(self, domain: str, item_id: str) -> StoredItem:
        """Return a stored item.

        Raises:
            DomainNotFound, ItemNotFound.
        """
        self._state.get_domain(domain)
        found = self._state.items_by_id(domain, [item_id])
        if item_id not in found:
            raise ItemNotFound(f"{domain} has no item {item_id!r}")
        return found[item_id]

    def _embed(
        self,
        record: DomainRecord,
        items: Sequence[StoredItem],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Embed what has no vector yet, under every version that answers or is kept warm; `check`
        may end it.

        Raises:
            DomainNotFound: also where it is deleted meanwhile.
        """
        domain = record.name
        check_exists = fence(self._state, record)
        # Since the record was read a picture may have been decoded, and the disk synced: vectors of
        # a domain that was removed meanwhile would be left behind.
        check_exists()
        contents = self._versions.reader_of(record).contents_of(items)
        backbone = self._versions.engine(record).backbone
        activation = self._store.current(domain)
        for version in dict.fromkeys([*activation.in_use, *self._store.pinned(domain)]):
            try:
                prepared = self._versions.load(record, version)
            except DAMAGE_ERRORS:
                if version == activation.version:
                    raise
                continue  # what a rollback returns to is damaged: the next reconciliation says so
            check()
            try:
                self._vectors.complete(domain, prepared, contents, backbone, lambda *_: check())
            except (OSError, RuntimeError):
                # A domain that is deleted meanwhile takes its vectors along.
                check_exists()
                raise
