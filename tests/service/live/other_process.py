"""What another process does to `movies`, and what this one makes of it."""

from __future__ import annotations

import threading
from pathlib import Path

from service.http.components import Components
from service.jobs import Progress
from service.live.opening import EMBED_INLINE_MAX
from service.live.table import LiveDomain
from service.state import StoredItem
from tests.tiny import tiny_texts

TEXTS = tiny_texts(60)
MANY = [f"news {number}" for number in range(EMBED_INLINE_MAX + 1)]


def write_in_other_process(components: Components, texts: list[str]) -> None:
    """Store what another process will embed."""
    components.state.upsert_items("movies", [StoredItem(text, text) for text in texts])


def delete_in_other_process(components: Components, text: str) -> None:
    assert components.state.delete_items("movies", [text]).deleted == 1


def caught_up(components: Components) -> LiveDomain:
    deployment = components.reconciler.reconcile("movies")
    assert deployment is not None
    return deployment.live


def work(components: Components) -> None:
    """Do the jobs that wait, one after the other."""
    while job := components.state.claim_job("here", 60.0):
        result = components.jobs.kinds[job.kind](
            job, Progress(components.state, job, threading.Event())
        )
        components.state.update_job(job.id, token=job.token, status="succeeded", result=result)


def with_base(components: Components) -> None:
    """Answer from a base."""
    components.jobs.submit("fold", "movies", {})
    work(components)
    assert caught_up(components).items.base.is_kept


def damage(path: Path) -> None:
    """Overwrite a file's end."""
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"damaged!")
