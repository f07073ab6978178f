"""What a process answers from while another one changes more than can be applied here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters_store.errors import OutOfSpace
from service.app import assemble, started
from service.catalog.compaction_policy import COMPACTION_POLICY
from service.catalog.live_items import LiveItems
from service.catalog.verify import living_rows
from service.errors import ServiceError
from service.http.components import Components
from service.jobs import Progress
from service.live.follower import FEED_INTERVALS
from service.live.opening import EMBED_INLINE_MAX
from service.live.table import Deployment, LiveDomain, LiveTable
from service.settings import Settings
from service.state import DomainRecord, JobRecord, StoredItem
from service.wire.requests import ActivateRequest
from tests.service.conftest import MakeBundle, wait_until
from tests.tiny import tiny_texts
from transrec.backbone import Backbone

TEXTS = tiny_texts(60)
DELTA_ROWS = COMPACTION_POLICY.rows
MANY = [f"news {number}" for number in range(EMBED_INLINE_MAX + 1)]


@pytest.fixture
def components(settings: Settings, backbone: Backbone) -> Iterator[Components]:
    """A process that answers for sixty items from a base, and another version; its jobs wait."""
    with started(settings) as components:
        components.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        components.activator.publish_new_domain(components.state.get_domain("movies"))
        components.writer.upsert("movies", [StoredItem(text, text) for text in TEXTS])
        yield components


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


def test_while_more_changes_than_can_be_applied_wait_deletes_are_applied_at_once(
    components: Components,
) -> None:
    before = caught_up(components)
    write_in_other_process(components, MANY)
    delete_in_other_process(components, TEXTS[3])
    write_in_other_process(components, [TEXTS[5] + " changed"])
    now = caught_up(components)
    assert "movies" in components.reconciler.backlog.waiting
    assert set(now.items.rows(TEXTS)) == {*TEXTS} - {TEXTS[3]}
    assert not now.items.rows(MANY), "they wait for a base"
    assert now.index_generation > before.index_generation, (
        "answers of one number are made of the same items"
    )
    delete_in_other_process(components, TEXTS[4])
    assert set(caught_up(components).items.rows(TEXTS)) == {*TEXTS} - {TEXTS[3], TEXTS[4]}


def test_what_was_deleted_and_came_back_while_changes_wait_is_there_again_after_the_build(
    components: Components,
) -> None:
    write_in_other_process(components, MANY)
    delete_in_other_process(components, TEXTS[3])
    assert not caught_up(components).items.rows([TEXTS[3]])
    write_in_other_process(components, [TEXTS[3]])
    delete_in_other_process(components, MANY[0])
    components.writer.embed("movies", [StoredItem(text, text) for text in [*MANY, TEXTS[3]]])
    assert set(caught_up(components).items.rows([*TEXTS, *MANY])) == {*TEXTS, *MANY[1:]}
    assert "movies" not in components.reconciler.backlog.waiting


def test_a_process_that_starts_while_many_changes_wait_uses_the_last_base_minus_removed_items(
    settings: Settings, components: Components
) -> None:
    with_base(components)
    write_in_other_process(components, MANY)
    delete_in_other_process(components, TEXTS[3])
    other = assemble(settings)
    try:
        assert set(caught_up(other).items.rows([*TEXTS, *MANY])) == {*TEXTS} - {TEXTS[3]}
        assert "movies" in other.reconciler.backlog.waiting
    finally:
        other.worker.close()
        other.state.close()


def test_a_rollback_while_many_changes_wait_is_done_at_once_and_brings_nothing_back(
    components: Components, bundle: MakeBundle
) -> None:
    version = components.store.add("movies", bundle(1), lambda _: []).version
    components.activator.submit("movies", version)
    work(components)
    assert caught_up(components).version == version
    write_in_other_process(components, MANY)
    delete_in_other_process(components, TEXTS[3])
    live = components.activator.rollback("movies").live
    assert live.version is None
    assert set(live.items.rows(TEXTS)) == {*TEXTS} - {TEXTS[3]}


def test_a_domain_that_was_made_anew_has_nothing_of_the_one_before(
    components: Components, backbone: Backbone
) -> None:
    before = caught_up(components)
    components.state.delete_domain("movies")  # elsewhere, and this process learns of it late
    components.state.put_domain(DomainRecord("movies", backbone.fingerprint))
    for number in range(before.items.generation + 2):
        write_in_other_process(components, [f"other {number}"])
    now = caught_up(components)
    assert set(now.items.ids(living_rows(now.items))) == {
        f"other {n}" for n in range(before.items.generation + 2)
    }


def test_during_a_large_import_single_items_change_at_once_and_the_rest_with_the_next_base(
    components: Components,
) -> None:
    with_base(components)
    many = [StoredItem(text, text) for text in (f"news {number}" for number in range(600))]
    components.writer.upsert("movies", many, search=False)
    assert set(caught_up(components).items.rows([*TEXTS, *(item.item_id for item in many)])) == {
        *TEXTS
    }
    components.writer.upsert("movies", [StoredItem("new", "new"), many[0]])
    components.writer.change("movies", TEXTS[1], lambda item: replace(item, available=False))
    components.writer.delete("movies", [TEXTS[2], many[1].item_id])
    items = caught_up(components).items
    assert set(items.rows([*TEXTS, "new", "news 0", "news 1"])) == {*TEXTS, "new", "news 0"} - {
        TEXTS[2]
    }
    assert TEXTS[1] not in recommended(items)
    assert {"new", "news 0"} <= recommended(items)
    assert "movies" not in components.reconciler.backlog.waiting
    work(components)
    assert set(caught_up(components).items.rows(item.item_id for item in many)) == {
        f"news {n}" for n in range(600)
    } - {"news 1"}
    assert not caught_up(components).items.incomplete
    assert components.state.open_jobs() == []


def test_unavailable_items_are_known_and_not_recommended_while_too_many_changes_wait(
    components: Components,
) -> None:
    with_base(components)
    write_in_other_process(components, MANY)
    components.state.upsert_items("movies", [StoredItem(TEXTS[1], TEXTS[1], available=False)])
    items = caught_up(components).items
    assert "movies" in components.reconciler.backlog.waiting
    assert set(items.rows(TEXTS)) == {*TEXTS}
    assert recommended(items) == {*TEXTS} - {TEXTS[1]}


def recommended(items: LiveItems) -> set[str]:
    """Return all that is recommended to anybody."""
    _, rows = items.search(np.ones((1, items.width), np.float32), 10_000)
    return set(items.ids(rows[0]))


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


def test_a_value_that_lacks_something_never_has_the_number_of_one_that_has_all(
    components: Components,
) -> None:
    with_base(components)
    numbers = [caught_up(components).index_generation]
    components.writer.upsert(
        "movies",
        [StoredItem(f"news {number}", f"news {number}") for number in range(600)],
        search=False,
    )
    numbers.append(caught_up(components).index_generation)
    work(components)
    numbers.append(caught_up(components).index_generation)
    assert numbers[0] <= numbers[1] < numbers[2], (
        "what an import brought and is not seen yet changes no answer"
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


def test_a_canary_of_an_evicted_domain_can_be_ended(
    components: Components, bundle: MakeBundle
) -> None:
    version = components.store.add("movies", bundle(1), lambda _: []).version
    components.activator.submit("movies", version, ActivateRequest(canary_percent=50))
    work(components)
    canary = components.live.get("movies").canary
    assert canary is not None
    components.live.evict("movies")
    components.activator.end_canary("movies", "another", "it is not this one")
    assert components.store.current("movies").percent == 50
    components.activator.end_canary("movies", canary.digest, "it missed its gate")
    assert components.store.current("movies").percent == 0
    assert components.live.get("movies").canary is None


def test_an_item_that_a_patch_does_not_change_is_searchable_when_it_came_with_an_import(
    components: Components,
) -> None:
    with_base(components)
    components.writer.upsert("movies", [StoredItem("news", "news")], search=False)
    assert not caught_up(components).items.rows(["news"])
    assert components.writer.change("movies", "news", lambda item: item).unchanged == 1
    assert components.live.get("movies").live.items.rows(["news"])


def test_an_evicted_deployment_is_not_restored_for_a_later_incarnation_that_changed_as_often(
    components: Components, backbone: Backbone
) -> None:
    with_base(components)
    components.live.evict("movies")
    generation = components.state.generation("movies")
    components.state.delete_domain("movies")
    components.state.put_domain(DomainRecord("movies", backbone.fingerprint))
    for number in range(generation):
        write_in_other_process(components, [f"other {number}"])
    components.reconciler.reconcile("movies")
    assert components.live.restore("movies") is None
    assert not components.live.get("movies").live.items.rows(TEXTS)


def test_an_evicted_deployment_is_invalidated_by_a_change_that_was_missed(
    components: Components,
) -> None:
    with_base(components)
    components.live.evict("movies")
    components.reconciler.reconcile("movies")
    assert components.live.cached("movies").deployment is not None, "nothing changed"
    delete_in_other_process(components, TEXTS[3])
    components.reconciler.reconcile("movies")
    assert components.live.is_evicted("movies")
    assert components.live.restore("movies") is None
    assert not components.live.get("movies").live.items.rows([TEXTS[3]])


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


def test_only_the_last_evicted_domains_keep_their_deployments(components: Components) -> None:
    with_base(components)
    table = LiveTable(lambda _: None, max_cached=2)
    live = caught_up(components)
    for name in ("a", "b", "c"):
        table.publish(Deployment(replace(live, domain=name)))
        table.evict(name)
    assert [name for name in ("a", "b", "c") if table.cached(name).deployment is not None] == [
        "b",
        "c",
    ]
    assert table.restore("a") is None
    back = table.restore("c")
    assert back is not None
    assert back.live.items.rows(TEXTS[:1])


def damage(path: Path) -> None:
    """Overwrite a file's end."""
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"damaged!")
