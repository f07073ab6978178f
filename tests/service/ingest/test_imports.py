"""Imports that are cut off go on where they were, and nothing that was deleted meanwhile comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import started
from service.content import import_rows
from service.content.import_rows import Report
from service.http.parts import Parts
from service.ingest import imports
from service.ingest.imports import Course
from service.jobs import Progress, Stopped
from service.settings import Settings
from service.state import DomainRecord, Item, Job
from service.wire.requests import ItemPatch
from transrec.backbone import Backbone

ROWS = 120


@pytest.fixture
def parts(settings: Settings, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """A process with an empty domain; its jobs wait, and imports take fifty rows at a time."""
    monkeypatch.setattr(import_rows, "BATCH_ROWS", 50)
    monkeypatch.setattr(imports, "BATCH_ROWS", 50)
    with started(settings) as parts:
        parts.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        parts.activator.publish_new_domain(parts.state.get_domain("movies"))
        yield parts


def body(parts: Parts) -> Path:
    """Spool rows, one of them no item."""
    path = parts.settings.data / "imports" / "body.ndjson.part"
    rows = [json.dumps({"item_id": f"i{number}", "title": f"film {number}"}) for number in range(ROWS)]
    path.write_text("\n".join([*rows[:70], "{", *rows[70:]]) + "\n")
    return path


def incarnation(parts: Parts) -> str:
    return parts.state.get_domain("movies").incarnation


class Cut(Progress):
    """Ends when a job has told how far it is."""

    def stage(self, name: str) -> Callable[[int, int], None]:
        super().stage(name)
        return self._cut

    def _cut(self, done: int, total: int) -> None:
        assert 0 < done < total
        raise Stopped


def go_on(parts: Parts, kind: type[Progress] = Progress) -> dict[str, Any]:
    """Do a job, as a process that has just claimed it."""
    job = parts.state.claim_job("here", 0.0)
    assert job is not None
    return parts.jobs.kinds["import"](job, kind(parts.state, job, threading.Event()))


def titles(parts: Parts) -> dict[str, str]:
    return {item.item_id: item.text for _, item in parts.state.list_items("movies", -1, 1000)}


def test_an_import_that_is_gone_on_with_stores_no_row_twice_and_reports_all(parts: Parts) -> None:
    job = parts.imports.submit("movies", body(parts), incarnation(parts))
    with pytest.raises(Stopped):
        go_on(parts, Cut)
    assert len(titles(parts)) == 50
    parts.writer.delete("movies", ["i3"])
    parts.writer.upsert("movies", [Item("i4", "newer"), Item("i80", "newer")])
    report = go_on(parts)
    assert (report["accepted"], report["unchanged"], report["rejected_count"]) == (ROWS - 1, 1, 1)
    assert report["rejected"][0]["index"] == 70
    found = titles(parts)
    assert "i3" not in found
    assert (found["i4"], found["i80"]) == ("newer", "newer")
    assert set(found) == {f"i{number}" for number in range(ROWS)} - {"i3"}
    assert parts.state.get_job(job.id).result is not None


def test_rows_of_which_it_was_not_written_down_that_they_are_stored_overwrite_nothing_newer(parts: Parts) -> None:
    path, begun = body(parts), parts.state.generation("movies")

    def killed(*_: object) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        parts.imports.run("movies", path, Course(compacts=True, keep=killed))
    assert len(titles(parts)) == 50
    parts.writer.delete("movies", ["i3"])
    parts.writer.upsert("movies", [Item("i4", "newer")])
    report = parts.imports.run("movies", path, Course(Report(), 0, begun, compacts=True))
    found = titles(parts)
    assert set(found) == {f"i{number}" for number in range(ROWS)} - {"i3"}
    assert found["i4"] == "newer"
    assert (report.stored, report.rejected_count) == (ROWS, 1)


def test_a_job_of_an_earlier_version_that_wrote_nothing_down_begins_at_the_first_row(parts: Parts) -> None:
    job: Job = parts.imports.submit("movies", body(parts), incarnation(parts))
    assert job.result is None
    assert go_on(parts)["accepted"] == ROWS


def test_a_patch_that_is_gone_on_with_does_not_undo_what_came_since(parts: Parts) -> None:
    parts.writer.upsert("movies", [Item("a", "film", 1.0), Item("b", "film", 1.0)])
    jobs = [
        parts.imports.submit_patch("movies", name, ItemPatch(popularity=2.0), incarnation(parts)) for name in ("a", "b")
    ]
    work = parts.jobs.kinds["patch"]
    for job in jobs:
        assert work(job, Progress(parts.state, job, threading.Event())) == {"updated": 1, "unchanged": 0}
    parts.writer.upsert("movies", [Item("a", "film", 3.0)])
    for job in jobs:  # as a process does that was killed before it had written down that they are done
        assert work(job, Progress(parts.state, job, threading.Event())) == {"updated": 0, "unchanged": 1}
    found = parts.state.items_by_id("movies", ["a", "b"])
    assert (found["a"].popularity, found["b"].popularity) == (3.0, 2.0)
