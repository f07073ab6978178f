from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.app import started
from service.http.components import Components
from service.settings import Settings
from service.state import DomainRecord, StoredItem
from tests.service.live.other_process import TEXTS
from transrec.backbone import Backbone


@pytest.fixture
def components(settings: Settings, backbone: Backbone) -> Iterator[Components]:
    """A process that answers for sixty items from a base, and another version; its jobs wait."""
    with started(settings) as components:
        components.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        components.activator.publish_new_domain(components.state.get_domain("movies"))
        components.writer.upsert("movies", [StoredItem(text, text) for text in TEXTS])
        yield components
