"""Imports that are cut off go on where they were,
and nothing that was deleted meanwhile comes back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import started
from service.content import import_rows
from service.content.import_rows import RowReport
from service.http.components import Components
from service.ingest import imports
from service.ingest.imports import ImportRun
from service.jobs import Progress, Stopped
from service.settings import Settings
from service.state import DomainRecord, JobRecord, StoredItem
from service.wire.requests import ItemPatch
from transrec.backbone import Backbone

ROWS = 120


@pytest.fixture
def components(
    settings: Settings, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Components]:
    """A process with an empty domain; its jobs wait, and imports take fifty rows at a time."""
    monkeypatch.setattr(import_rows, "BATCH_ROWS", 50)
    monkeypatch.setattr(imports, "BATCH_ROWS", 50)
    with started(settings) as components:
        components.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        components.activator.publish_new_domain(components.state.get_domain("movies"))
        yield components


def body(components: Components) -> Path:
    """Spool rows, one of them no item."""
    path = components.settings.data / "imports" / "body.ndjson.part"
    rows = [
        json.dumps({"item_id": f"i{number}", "title": f"film {number}"}) for number in range(ROWS)
    ]
    path.write_text("\n".join([*rows[:70], "{", *rows[70:]]) + "\n")
    return path


def incarnation(components: Components) -> str:
    return components.state.get_domain("movies").incarnation


class Cut(Progress):
    """Ends when a job has told how far it is."""

    def stage(self, name: str) -> Callable[[int, int], None]:
        super().stage(name)
        return self._cut

    def _cut(self, done: int, total: int) -> None:
        assert 0 < done < total
        raise Stopped


def go_on(components: Components, kind: type[Progress] = Progress) -> dict[str, Any]:
    """Do a job, as a process that has just claimed it."""
    job = components.state.claim_job("here", 0.0)
    assert job is not None
    return components.jobs.kinds["import"](job, kind(components.state, job, threading.Event()))


def titles(components: Components) -> dict[str, str]:
    return {item.item_id: item.text for _, item in components.state.list_items("movies", -1, 1000)}


def test_an_import_that_is_resumed_stores_no_row_twice_and_reports_all(
    components: Components,
) -> None:
    job = components.imports.submit("movies", body(components), incarnation(components))
    with pytest.raises(Stopped):
        go_on(components, Cut)
    assert len(titles(components)) == 50
    components.writer.delete("movies", ["i3"])
    components.writer.upsert("movies", [StoredItem("i4", "newer"), StoredItem("i80", "newer")])
    report = go_on(components)
    assert (report["accepted"], report["unchanged"], report["rejected_count"]) == (ROWS - 1, 1, 1)
    assert report["rejected"][0]["index"] == 70
    found = titles(components)
    assert "i3" not in found
    assert (found["i4"], found["i80"]) == ("newer", "newer")
    assert set(found) == {f"i{number}" for number in range(ROWS)} - {"i3"}
    assert components.state.get_job(job.id).result is not None


def test_rows_of_which_it_was_not_written_down_that_they_are_stored_overwrite_nothing_newer(
    components: Components,
) -> None:
    path = body(components)
    begun = components.state.generation("movies")

    def killed(*_: object) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        components.imports.run("movies", path, ImportRun(compacts=True, keep=killed))
    assert len(titles(components)) == 50
    components.writer.delete("movies", ["i3"])
    components.writer.upsert("movies", [StoredItem("i4", "newer")])
    report = components.imports.run("movies", path, ImportRun(RowReport(), 0, begun, compacts=True))
    found = titles(components)
    assert set(found) == {f"i{number}" for number in range(ROWS)} - {"i3"}
    assert found["i4"] == "newer"
    assert (report.stored, report.rejected_count) == (ROWS, 1)


def test_a_job_of_an_earlier_version_that_wrote_nothing_down_begins_at_the_first_row(
    components: Components,
) -> None:
    job: JobRecord = components.imports.submit("movies", body(components), incarnation(components))
    assert job.result is None
    assert go_on(components)["accepted"] == ROWS


def test_a_patch_that_is_resumed_does_not_undo_what_came_since(components: Components) -> None:
    components.writer.upsert("movies", [StoredItem("a", "film", 1.0), StoredItem("b", "film", 1.0)])
    jobs = [
        components.imports.submit_patch(
            "movies", name, ItemPatch(popularity=2.0), incarnation(components)
        )
        for name in ("a", "b")
    ]
    work = components.jobs.kinds["patch"]
    for job in jobs:
        assert work(job, Progress(components.state, job, threading.Event())) == {
            "updated": 1,
            "unchanged": 0,
        }
    components.writer.upsert("movies", [StoredItem("a", "film", 3.0)])
    # As a process does that was killed before it had written down that they are done.
    for job in jobs:
        assert work(job, Progress(components.state, job, threading.Event())) == {
            "updated": 0,
            "unchanged": 1,
        }
    found = components.state.items_by_id("movies", ["a", "b"])
    assert (found["a"].popularity, found["b"].popularity) == (3.0, 2.0)
