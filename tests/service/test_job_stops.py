"""Every kind of job ends soon after somebody cancelled it, its domain went or the service stops."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.app import started
from service.http.parts import Parts
from service.settings import Settings
from service.state import DomainRecord, Item, Job
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
def parts(settings: Settings, backbone: Backbone) -> Iterator[Parts]:
    """A process with an empty domain, whose jobs run."""
    with started(settings.model_copy(update={"builder_items": 10})) as parts:
        parts.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        parts.activator.publish_new_domain(parts.state.get_domain("movies"))
        parts.jobs.start()
        yield parts


def begin(parts: Parts, body: str) -> Job:
    """Begin to import a body that takes long."""
    path = parts.settings.data / "imports" / "body.ndjson.part"
    BODIES[body](path)
    job = parts.imports.submit("movies", path, parts.state.get_domain("movies").incarnation)
    wait_until(lambda: parts.state.get_job(job.id).stage == "import")
    time.sleep(0.2)
    return job


def left_behind(parts: Parts) -> list[str]:
    return [path.name for path in (parts.settings.data / "imports").iterdir()]


@pytest.mark.parametrize("body", BODIES)
def test_an_import_that_stores_nothing_is_cancelled_soon(parts: Parts, body: str) -> None:
    job = begin(parts, body)
    parts.jobs.cancel(job.id)
    wait_until(lambda: parts.state.get_job(job.id).ended, SOON_S)
    assert parts.state.get_job(job.id).status == "cancelled"
    wait_until(lambda: left_behind(parts) == [])


@pytest.mark.parametrize("body", BODIES)
def test_an_import_that_stores_nothing_stops_with_the_service(parts: Parts, body: str) -> None:
    job = begin(parts, body)
    asked = time.monotonic()
    parts.jobs.close()
    assert time.monotonic() - asked < SOON_S
    assert parts.state.get_job(job.id).status == "queued"


def test_an_import_whose_domain_is_removed_ends_and_its_body_goes(parts: Parts) -> None:
    begin(parts, "refused rows")
    parts.activator.remove("movies")
    wait_until(lambda: left_behind(parts) == [], SOON_S + 1)


def test_refused_rows_that_were_reported_are_not_read_again_after_a_stop(parts: Parts) -> None:
    job = begin(parts, "refused rows")
    wait_until(lambda: (parts.state.get_job(job.id).result or {}).get("position", 0) > 0)
    parts.jobs.close()
    kept = parts.state.get_job(job.id).result
    assert kept is not None
    assert kept["position"] == kept["report"]["rejected_count"] * len(REFUSED)


def begin_silent(parts: Parts, kind: str, detail: dict[str, object]) -> Job:
    """Begin a job that waits for the process that builds, which says nothing: it is stopped while it starts."""
    items = [Item(f"i{number}", text) for number, text in enumerate(tiny_texts(60))]
    parts.state.upsert_items("movies", items, "later")
    job = parts.jobs.submit(kind, "movies", detail)
    wait_until(lambda: parts.builder._process is not None)
    process = parts.builder._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    return job


SILENT: dict[str, dict[str, object]] = {
    "fold": {},
    "activate": {"version": "none", **ActivateRequest().model_dump()},
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_job_ends_soon_also_while_the_process_that_builds_says_nothing(parts: Parts, kind: str) -> None:
    job = begin_silent(parts, kind, SILENT[kind])
    parts.jobs.cancel(job.id)
    wait_until(lambda: parts.state.get_job(job.id).ended, SOON_S)
    assert parts.state.get_job(job.id).status == "cancelled"
    assert parts.builder._process is None


def test_a_job_that_waits_for_its_turn_to_build_is_cancelled_soon(parts: Parts) -> None:
    parts.state.put_domain(DomainRecord("books", parts.state.get_domain("movies").backbone))
    items = [Item(f"i{number}", f"storm {number}") for number in range(60)]
    parts.state.upsert_items("books", items, "later")
    begin_silent(parts, "fold", {})
    waits = parts.jobs.submit("fold", "books", {})
    wait_until(lambda: parts.state.get_job(waits.id).status == "running")
    time.sleep(0.3)
    parts.jobs.cancel(waits.id)
    wait_until(lambda: parts.state.get_job(waits.id).ended, SOON_S)
    assert parts.state.get_job(waits.id).status == "cancelled"
