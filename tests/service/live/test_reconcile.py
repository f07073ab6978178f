"""A process answers from what store and state say, also after damage and missed changes."""

from __future__ import annotations

import pytest

from adapters_store.errors import OutOfSpace
from service.app import assemble
from service.catalog.compaction_policy import COMPACTION_POLICY
from service.errors import ServiceError
from service.http.components import Components
from service.live.follower import FEED_INTERVALS
from service.settings import Settings
from service.state import DomainRecord, JobRecord, StoredItem
from tests.service.conftest import MakeBundle, wait_until
from tests.service.live.other_process import (
    MANY,
    TEXTS,
    caught_up,
    damage,
    delete_in_other_process,
    with_base,
    work,
    write_in_other_process,
)

DELTA_ROWS = COMPACTION_POLICY.rows


def test_a_delete_needs_no_file_of_the_version_that_answers(
    components: Components, bundle: MakeBundle
) -> None:
    version = components.store.add("movies", bundle(1), lambda _: []).version
    components.activator.submit("movies", version)
    work(components)
    damage(components.store.bundle_path("movies", version))
    components.writer.delete("movies", [TEXTS[3]])
    assert not components.live.get("movies").live.items.rows([TEXTS[3]])
    write_in_other_process(components, ["late"])
    delete_in_other_process(components, TEXTS[4])
    assert set(caught_up(components).items.rows([*TEXTS, "late"])) == {*TEXTS} - {
        TEXTS[3],
        TEXTS[4],
    }


def test_a_base_that_is_damaged_is_built_again(settings: Settings, components: Components) -> None:
    many = [StoredItem(f"news {number}", f"news {number}") for number in range(DELTA_ROWS)]
    components.writer.upsert("movies", many)
    with_base(components)
    for path in caught_up(components).items.base.path.glob("vectors-*.npy"):
        damage(path)
    other = assemble(settings)
    try:
        assert other.reconciler.reconcile("movies") is None
        work(other)
        assert len(caught_up(other).items) == len(TEXTS) + DELTA_ROWS
    finally:
        other.worker.close()
        other.state.close()


def test_a_version_that_is_pinned_before_it_ever_answered_becomes_warm(
    components: Components, bundle: MakeBundle
) -> None:
    components.writer.upsert(
        "movies",
        [StoredItem(f"news {number}", f"news {number}") for number in range(DELTA_ROWS)],
    )
    with_base(components)
    version = components.store.add("movies", bundle(1), lambda _: []).version
    components.activator.pin("movies", version, pinned=True)
    work(components)
    assert components.live.get("movies").get(version).version == version
    components.reconciler.reconcile("movies")
    assert components.state.open_jobs() == [], "there is nothing left to build"


def test_a_domain_made_anew_that_cannot_answer_here_is_not_answered_from_the_one_before(
    components: Components,
) -> None:
    assert caught_up(components)
    components.state.delete_domain("movies")
    components.state.put_domain(DomainRecord("movies", "a backbone that is loaded elsewhere"))
    assert components.reconciler.reconcile("movies") is None
    with pytest.raises(ServiceError):
        components.live.get("movies")


def test_a_version_that_lacks_what_an_import_brought_is_built_before_it_goes_live(
    components: Components, bundle: MakeBundle
) -> None:
    version = components.store.add("movies", bundle(1), lambda _: []).version
    components.activator.pin("movies", version, pinned=True)
    with_base(components)
    components.activator.pin("movies", version, pinned=False)
    components.writer.upsert(
        "movies",
        [StoredItem(f"news {number}", f"news {number}") for number in range(600)],
        search=False,
    )
    work(components)
    components.activator.pin("movies", version, pinned=True)
    assert components.live.get("movies").get(version).items.incomplete
    assert [job.kind for job in components.state.open_jobs()] == ["fold"], "a base is asked for"
    job = components.activator.submit("movies", version)
    assert not job.ended, "it is no flip"
    work(components)
    live = components.live.get("movies").live
    assert (live.version, len(live.items), live.items.incomplete) == (
        version,
        len(TEXTS) + 600,
        False,
    )


def test_a_delete_goes_also_where_no_job_can_be_written_down(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> JobRecord:
        raise OutOfSpace("no room")

    write_in_other_process(components, MANY)
    # As a full Redis, which takes deletes and no jobs.
    monkeypatch.setattr(components.jobs, "submit", full)
    components.writer.delete("movies", [TEXTS[3]])
    assert not components.live.get("movies").live.items.rows([TEXTS[3]])


def test_an_item_that_a_patch_does_not_change_is_searchable_when_it_came_with_an_import(
    components: Components,
) -> None:
    with_base(components)
    components.writer.upsert("movies", [StoredItem("news", "news")], search=False)
    assert not caught_up(components).items.rows(["news"])
    assert components.writer.change("movies", "news", lambda item: item).unchanged == 1
    assert components.live.get("movies").live.items.rows(["news"])


def test_what_met_an_error_that_passes_is_brought_up_to_date_without_another_change(
    components: Components, bundle: MakeBundle
) -> None:
    version = components.store.add("movies", bundle(1), lambda _: []).version
    components.activator.submit("movies", version)
    work(components)
    components.follower.start()
    path = components.store.bundle_path("movies", version)
    whole = path.read_bytes()
    damage(path)
    write_in_other_process(components, ["late"])
    wait_until(lambda: "movies" in components.reconciler.backlog.troubled)
    assert not components.live.get("movies").live.items.rows(["late"])
    path.write_bytes(whole)
    wait_until(
        lambda: components.live.get("movies").live.items.rows(["late"]) != {},
        FEED_INTERVALS.sweep_s / 2,
    )
    assert "movies" not in components.reconciler.backlog.troubled
