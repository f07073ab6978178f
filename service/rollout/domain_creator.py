"""A domain begins: its backbone is chosen, and it answers under `none`."""

from __future__ import annotations

import logging
from collections.abc import Callable

from adapters_store.domains import check_domain_name
from adapters_store.store import Store
from service.engine.backbones import Backbones
from service.errors import RequestConflict
from service.state import DomainRecord, Domains
from service.wire.requests import DomainBody

_log = logging.getLogger("swaprec")


class DomainCreator:
    """Creates domains and changes their titles.

    Args:
        state: keeps the domains.
        store: keeps their versions.
        backbones: those that a domain may run.
        publish: makes a new domain answer.
    """

    def __init__(
        self,
        state: Domains,
        store: Store,
        backbones: Backbones,
        publish: Callable[[DomainRecord], None],
    ) -> None:
        self._state = state
        self._store = store
        self._backbones = backbones
        self._publish = publish

    def put(self, name: str, body: DomainBody) -> bool:
        """Create a domain, or change its title; return whether it was created.

        Raises:
            InvalidName; BackboneNotFound: none or several fit; RequestConflict: it runs another
                backbone already.
        """
        check_domain_name(name)
        known = self._find(name)
        fingerprint = self._choose_backbone(name, body.backbone, known)
        record = DomainRecord(name, fingerprint, body.title or (known.title if known else ""))
        if known is None:  # of an earlier domain of the name nothing must be left
            self._store.finish_removal(name)
        created = self._state.put_domain(record)
        if created:
            _log.info("%s: the domain is created, on backbone %s", name, fingerprint[:12])
        self._publish(record)
        return created

    def exists(self, name: str) -> bool:
        """Whether there is a domain of this name."""
        return self._find(name) is not None

    def draft(self, name: str, backbone: str) -> DomainRecord:
        """Return the record that a domain would have if it were created; nothing is created.

        Raises:
            InvalidName; BackboneNotFound.
        """
        return DomainRecord(check_domain_name(name), self._backbones.find(backbone))

    def _find(self, name: str) -> DomainRecord | None:
        return next((record for record in self._state.domains() if record.name == name), None)

    def _choose_backbone(self, name: str, wanted: str | None, known: DomainRecord | None) -> str:
        if known is not None and wanted is None:
            return known.backbone
        fingerprint = self._backbones.find(wanted)
        if known is not None and known.backbone != fingerprint:
            raise RequestConflict(
                f"{name} runs backbone {known.backbone[:12]}; its versions fit no other: make"
                " another domain"
            )
        return fingerprint
