"""Removing versions and domains, with everything that is kept of them."""

from __future__ import annotations

import logging

from adapters_store.store import Store
from service.catalog.bases import Bases
from service.embedding.vectors import VectorFiles
from service.live.compaction import Compactor
from service.live.reconcile import Reconciler
from service.live.table import LiveTable
from service.state import Domains
from service.state.fence import fence
from service.state.snapshots import Snapshots

_log = logging.getLogger("swaprec")


class Remover:
    """Removes versions and domains."""

    def __init__(
        self,
        state: Domains,
        store: Store,
        live: LiveTable,
        bases: Bases,
        vectors: VectorFiles,
        snapshots: Snapshots,
        reconciler: Reconciler,
        compactor: Compactor,
    ) -> None:
        self._state = state
        self._store = store
        self._live = live
        self._bases = bases
        self._vectors = vectors
        self._snapshots = snapshots
        self._reconciler = reconciler
        self._compactor = compactor

    def delete_version(self, domain: str, version: int) -> None:
        """Delete a version and its vectors.

        Raises:
            VersionNotFound, VersionInUse: nothing was deleted.
        """
        with self._reconciler.turn(domain):
            record = self._state.get_domain(domain)
            self._store.delete(domain, version, fence(self._state, record))
            self._compactor.sweep(record)
        _log.info("%s: version %s is deleted", domain, version)

    def remove_domain(self, domain: str) -> None:
        """Remove a domain with everything that is kept of it; what still answers a request goes
        with that request.

        Whoever writes to the domain's part of the store meanwhile waits, and is refused: nothing of
        it is left for a later domain of its name.
        """
        with self._reconciler.turn(domain):
            record = self._state.get_domain(domain)

            def forget() -> None:
                # First: where state does not answer, nothing was removed.
                self._state.delete_domain(domain)
                self._live.remove(domain)
                self._snapshots.forget(domain)
                self._vectors.forget(domain)
                self._bases.forget(record)

            self._store.remove_domain(domain, forget, fence(self._state, record))
        _log.info("%s: the domain is deleted", domain)
        self._compactor.sweeps.ask()
