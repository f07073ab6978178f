"""Pictures that no item names any more go,
in the background: no request and no job waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress

from service.content.blobs import Blobs
from service.engine.engine import Engine
from service.errors import DomainNotFound, StateUnavailable
from service.jobs import Jobs, Stopped
from service.state import Catalogs, DomainRecord
from service.state.snapshots import Snapshots

PAGE_ITEMS = 20_000

_log = logging.getLogger("swaprec")


class Sweeps:
    """Says which pictures are named,
    and has the others removed, once a day among all processes of a folder.
    """

    def __init__(
        self,
        state: Catalogs,
        blobs: Blobs,
        snapshots: Snapshots,
        engines: Mapping[str, Engine],
        jobs: Jobs,
    ) -> None:
        self._state = state
        self._blobs = blobs
        self._snapshots = snapshots
        self._engines = engines
        self._jobs = jobs
        self._closing = threading.Event()

    def ask(self) -> None:
        """Sweep soon, if it is time to; returns at once."""
        if self._blobs.is_sweep_due() and not self._closing.is_set():
            self._jobs.background(self._sweep)

    def close(self) -> None:
        """End a sweep that runs, and begin no other; the next process goes on."""
        self._closing.set()

    def named(self) -> Iterator[str]:
        """Yield the pictures that items of any domain name, and those of the snapshots: a lost
        state needs them again.

        A domain is read unless its backbone is known here and reads no pictures.

        Raises:
            StateUnavailable; StateError, OSError, ValueError: a snapshot is damaged. What is named
                is not known then.
        """
        for record in self._state.domains():
            if self._may_have_pictures(record):
                with suppress(DomainNotFound):  # removed meanwhile
                    yield from self._of_items(record.name)
        for card in self._snapshots.all():
            yield from self._snapshots.images(card)

    def _may_have_pictures(self, record: DomainRecord) -> bool:
        engine = self._engines.get(record.backbone)
        return engine is None or "image" in engine.backbone.config.modalities

    def _of_items(self, domain: str) -> Iterator[str]:
        after = -1
        while page := self._state.list_items(domain, after, PAGE_ITEMS):
            self._check()
            yield from (item.image for _, item in page if item.image)
            after = page[-1][0]

    def _check(self) -> None:
        if self._closing.is_set():
            raise Stopped

    def _sweep(self) -> None:
        try:
            removed = self._blobs.sweep(self.named, self._check)
        except (StateUnavailable, Stopped) as error:
            _log.info("pictures are swept another time: %s", str(error) or "the service stops")
        except Exception:  # noqa: BLE001 - nothing waits for it, and what was not removed stays
            _log.exception("pictures that no item names cannot be removed")
        else:
            if removed:
                _log.info("%d pictures that no item named are removed", removed)
