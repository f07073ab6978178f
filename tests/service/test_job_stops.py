"""Every kind of job ends soon after somebody cancelled it, its domain went or the service stops."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.app import started
from service.http.components import Components
from service.settings import Settings
from service.state import DomainRecord, JobRecord, StoredItem
from service.wire.requests import ActivateRequest
from tests.service.conftest import wait_until
from tests.tiny import tiny_texts
from transrec.backbone import Backbone

SOON_S = 2.0
REFUSED = b'{"item_id": "", "title": 1}\n'
BODIES: dict[str, Callable[[Path], object]] = {
    "refused rows": lambda path: path.write_bytes(REFUSED * 1_000_000),
    "lines that are no JSON": lambda path: path.write_bytes(b"{\n" * 4_000_000),
    "empty lines": lambda path: path.write_bytes(b"\n" * 80_000_000),
    "a line without an end": lambda path: _sparse(path, 1 << 38),
}


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


@pytest.fixture
def components(settings: Settings, backbone: Backbone) -> Iterator[Components]:
    """A process with an empty domain, whose jobs run."""
    with started(settings.model_copy(update={"builder_items": 10})) as components:
        components.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        components.activator.publish_new_domain(components.state.get_domain("movies"))
        components.jobs.start()
        yield components


def begin(components: Components, body: str) -> JobRecord:
    """Begin to import a body that takes long."""
    path = components.settings.data / "imports" / "body.ndjson.part"
    BODIES[body](path)
    job = components.imports.submit(
        "movies", path, components.state.get_domain("movies").incarnation
    )
    wait_until(lambda: components.state.get_job(job.id).stage == "import")
    time.sleep(0.2)
    return job


def left_behind(components: Components) -> list[str]:
    return [path.name for path in (components.settings.data / "imports").iterdir()]


@pytest.mark.parametrize("body", BODIES)
def test_an_import_that_stores_nothing_is_cancelled_soon(
    components: Components, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    job = begin(components, body)
    components.jobs.cancel(job.id)
    wait_until(lambda: components.state.get_job(job.id).ended, SOON_S)
    assert components.state.get_job(job.id).status == "cancelled"
    wait_until(lambda: left_behind(components) == [])
    assert f"job {job.id} (import of {job.domain}) is cancelled" in caplog.messages


@pytest.mark.parametrize("body", BODIES)
def test_an_import_that_stores_nothing_stops_with_the_service(
    components: Components, body: str
) -> None:
    job = begin(components, body)
    asked = time.monotonic()
    components.jobs.close()
    assert time.monotonic() - asked < SOON_S
    assert components.state.get_job(job.id).status == "queued"


def test_an_import_whose_domain_is_removed_ends_and_its_body_goes(components: Components) -> None:
    begin(components, "refused rows")
    assert left_behind(components) != []
    components.remover.remove_domain("movies")
    wait_until(lambda: left_behind(components) == [], SOON_S + 1)


def test_refused_rows_that_were_reported_are_not_read_again_after_a_stop(
    components: Components,
) -> None:
    job = begin(components, "refused rows")
    wait_until(lambda: (components.state.get_job(job.id).result or {}).get("position", 0) > 0)
    components.jobs.close()
    kept = components.state.get_job(job.id).result
    assert kept is not None
    assert kept["position"] == kept["report"]["rejected_count"] * len(REFUSED)


def begin_silent(components: Components, kind: str, detail: dict[str, object]) -> JobRecord:
    """Begin a job that waits for the process that builds,
    which says nothing: it is stopped while it starts.
    """
    items = [StoredItem(f"i{number}", text) for number, text in enumerate(tiny_texts(60))]
    components.state.upsert_items("movies", items, "later")
    job = components.jobs.submit(kind, "movies", detail)
    wait_until(lambda: components.worker._process is not None)
    process = components.worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    return job


SILENT: dict[str, dict[str, object]] = {
    "fold": {},
    "activate": {"version": "none", **ActivateRequest().model_dump()},
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_job_ends_soon_also_while_the_process_that_builds_says_nothing(
    components: Components, kind: str
) -> None:
    job = begin_silent(components, kind, SILENT[kind])
    components.jobs.cancel(job.id)
    wait_until(lambda: components.state.get_job(job.id).ended, SOON_S)
    assert components.state.get_job(job.id).status == "cancelled"
    assert components.worker._process is None


def test_a_job_that_waits_for_its_turn_to_build_is_cancelled_soon(components: Components) -> None:
    components.state.put_domain(
        DomainRecord("books", components.state.get_domain("movies").backbone)
    )
    items = [StoredItem(f"i{number}", f"storm {number}") for number in range(60)]
    components.state.upsert_items("books", items, "later")
    begin_silent(components, "fold", {})
    waits = components.jobs.submit("fold", "books", {})
    wait_until(lambda: components.state.get_job(waits.id).status == "running")
    time.sleep(0.3)
    components.jobs.cancel(waits.id)
    wait_until(lambda: components.state.get_job(waits.id).ended, SOON_S)
    assert components.state.get_job(waits.id).status == "cancelled"
