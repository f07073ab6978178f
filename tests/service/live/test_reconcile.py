"""What a process answers from while another one changes more than can be applied here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters_store.errors import OutOfSpace
from service.app import assemble, started
from service.catalog.live_items import COMPACTION_ROWS, LiveItems
from service.errors import ServiceError
from service.http.parts import Parts
from service.jobs import Progress
from service.live.follower import SWEEP_S
from service.live.reconcile import HERE
from service.live.table import Deployment, LiveDomain, LiveTable
from service.settings import Settings
from service.state import DomainRecord, Item, Job
from service.wire.requests import ActivateRequest
from tests.service.conftest import wait_until
from tests.tiny import tiny_texts
from transrec.backbone import Backbone

TEXTS = tiny_texts(60)
MANY = [f"news {number}" for number in range(HERE + 1)]
Make = Callable[..., Path]


@pytest.fixture
def parts(settings: Settings, backbone: Backbone) -> Iterator[Parts]:
    """A process that answers for sixty items from a base, and another version; its jobs wait."""
    with started(settings) as parts:
        parts.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        parts.activator.publish_new_domain(parts.state.get_domain("movies"))
        parts.writer.upsert("movies", [Item(text, text) for text in TEXTS])
        yield parts


def write_elsewhere(parts: Parts, texts: list[str]) -> None:
    """Store what another process will embed."""
    parts.state.upsert_items("movies", [Item(text, text) for text in texts])


def delete_elsewhere(parts: Parts, text: str) -> None:
    assert parts.state.delete_items("movies", [text]).deleted == 1


def caught_up(parts: Parts) -> LiveDomain:
    deployment = parts.reconciler.reconcile("movies")
    assert deployment is not None
    return deployment.live


def work(parts: Parts) -> None:
    """Do the jobs that wait, one after the other."""
    while job := parts.state.claim_job("here", 60.0):
        result = parts.jobs.kinds[job.kind](job, Progress(parts.state, job, threading.Event()))
        parts.state.update_job(job.id, token=job.token, status="succeeded", result=result)


def with_base(parts: Parts) -> None:
    """Answer from a base."""
    parts.jobs.submit("fold", "movies", {})
    work(parts)
    assert caught_up(parts).items.base.is_kept


def test_while_more_changes_than_can_be_applied_wait_what_is_deleted_is_gone_at_once(parts: Parts) -> None:
    before = caught_up(parts)
    write_elsewhere(parts, MANY)
    delete_elsewhere(parts, TEXTS[3])
    write_elsewhere(parts, [TEXTS[5] + " changed"])
    now = caught_up(parts)
    assert "movies" in parts.reconciler.waiting
    assert set(now.items.rows(TEXTS)) == {*TEXTS} - {TEXTS[3]}
    assert not now.items.rows(MANY), "they wait for a base"
    assert now.index_generation > before.index_generation, "answers of one number are made of the same items"
    delete_elsewhere(parts, TEXTS[4])
    assert set(caught_up(parts).items.rows(TEXTS)) == {*TEXTS} - {TEXTS[3], TEXTS[4]}


def test_what_was_deleted_and_came_back_while_changes_wait_is_there_again_after_the_build(parts: Parts) -> None:
    write_elsewhere(parts, MANY)
    delete_elsewhere(parts, TEXTS[3])
    assert not caught_up(parts).items.rows([TEXTS[3]])
    write_elsewhere(parts, [TEXTS[3]])
    delete_elsewhere(parts, MANY[0])
    parts.writer.embed("movies", [Item(text, text) for text in [*MANY, TEXTS[3]]])
    assert set(caught_up(parts).items.rows([*TEXTS, *MANY])) == {*TEXTS, *MANY[1:]}
    assert "movies" not in parts.reconciler.waiting


def test_a_process_that_starts_while_many_changes_wait_answers_from_the_last_base_without_what_is_deleted(
    settings: Settings, parts: Parts
) -> None:
    with_base(parts)
    write_elsewhere(parts, MANY)
    delete_elsewhere(parts, TEXTS[3])
    other = assemble(settings)
    try:
        assert set(caught_up(other).items.rows([*TEXTS, *MANY])) == {*TEXTS} - {TEXTS[3]}
        assert "movies" in other.reconciler.waiting
    finally:
        other.builder.close()
        other.state.close()


def test_a_rollback_while_many_changes_wait_is_done_at_once_and_brings_nothing_back(parts: Parts, bundle: Make) -> None:
    version = parts.store.add("movies", bundle(1), lambda _: []).version
    parts.activator.submit("movies", version)
    work(parts)
    assert caught_up(parts).version == version
    write_elsewhere(parts, MANY)
    delete_elsewhere(parts, TEXTS[3])
    live = parts.activator.rollback("movies").live
    assert live.version is None
    assert set(live.items.rows(TEXTS)) == {*TEXTS} - {TEXTS[3]}


def test_a_domain_that_was_made_anew_has_nothing_of_the_one_before(parts: Parts, backbone: Backbone) -> None:
    before = caught_up(parts)
    parts.state.delete_domain("movies")  # elsewhere, and this process learns of it late
    parts.state.put_domain(DomainRecord("movies", backbone.fingerprint))
    for number in range(before.items.generation + 2):
        write_elsewhere(parts, [f"other {number}"])
    now = caught_up(parts)
    assert set(now.items.ids(now.items.living())) == {f"other {n}" for n in range(before.items.generation + 2)}


def test_during_a_large_import_single_items_come_change_and_go_at_once_and_the_rest_with_the_next_base(
    parts: Parts,
) -> None:
    with_base(parts)
    many = [Item(text, text) for text in (f"news {number}" for number in range(600))]
    parts.writer.upsert("movies", many, search=False)
    assert set(caught_up(parts).items.rows([*TEXTS, *(item.item_id for item in many)])) == {*TEXTS}
    parts.writer.upsert("movies", [Item("new", "new"), many[0]])
    parts.writer.change("movies", TEXTS[1], lambda item: replace(item, available=False))
    parts.writer.delete("movies", [TEXTS[2], many[1].item_id])
    items = caught_up(parts).items
    assert set(items.rows([*TEXTS, "new", "news 0", "news 1"])) == {*TEXTS, "new", "news 0"} - {TEXTS[2]}
    assert TEXTS[1] not in recommended(items)
    assert {"new", "news 0"} <= recommended(items)
    assert "movies" not in parts.reconciler.waiting
    work(parts)
    assert set(caught_up(parts).items.rows(item.item_id for item in many)) == {f"news {n}" for n in range(600)} - {
        "news 1"
    }
    assert not caught_up(parts).items.incomplete
    assert parts.state.open_jobs() == []


def test_what_is_hidden_while_more_changes_than_can_be_applied_wait_is_known_and_not_recommended(parts: Parts) -> None:
    with_base(parts)
    write_elsewhere(parts, MANY)
    parts.state.upsert_items("movies", [Item(TEXTS[1], TEXTS[1], available=False)])
    items = caught_up(parts).items
    assert "movies" in parts.reconciler.waiting
    assert set(items.rows(TEXTS)) == {*TEXTS}
    assert recommended(items) == {*TEXTS} - {TEXTS[1]}


def recommended(items: LiveItems) -> set[str]:
    """Return all that is recommended to anybody."""
    _, rows = items.search(np.ones((1, items.width), np.float32), 10_000)
    return set(items.ids(rows[0]))


def test_a_delete_needs_no_file_of_the_version_that_answers(parts: Parts, bundle: Make) -> None:
    version = parts.store.add("movies", bundle(1), lambda _: []).version
    parts.activator.submit("movies", version)
    work(parts)
    damage(parts.store.bundle_path("movies", version))
    parts.writer.delete("movies", [TEXTS[3]])
    assert not parts.live.get("movies").live.items.rows([TEXTS[3]])
    write_elsewhere(parts, ["late"])
    delete_elsewhere(parts, TEXTS[4])
    assert set(caught_up(parts).items.rows([*TEXTS, "late"])) == {*TEXTS} - {TEXTS[3], TEXTS[4]}


def test_a_base_that_is_damaged_is_built_again(settings: Settings, parts: Parts) -> None:
    many = [Item(f"news {number}", f"news {number}") for number in range(COMPACTION_ROWS)]
    parts.writer.upsert("movies", many)
    with_base(parts)
    for path in caught_up(parts).items.base.path.glob("vectors-*.npy"):
        damage(path)
    other = assemble(settings)
    try:
        assert other.reconciler.reconcile("movies") is None
        work(other)
        assert len(caught_up(other).items) == len(TEXTS) + COMPACTION_ROWS
    finally:
        other.builder.close()
        other.state.close()


def test_a_version_that_is_pinned_before_it_ever_answered_becomes_warm(parts: Parts, bundle: Make) -> None:
    parts.writer.upsert("movies", [Item(f"news {number}", f"news {number}") for number in range(COMPACTION_ROWS)])
    with_base(parts)
    version = parts.store.add("movies", bundle(1), lambda _: []).version
    parts.activator.pin("movies", version, pinned=True)
    work(parts)
    assert parts.live.get("movies").get(version).version == version
    parts.reconciler.reconcile("movies")
    assert parts.state.open_jobs() == [], "there is nothing left to build"


def test_a_domain_made_anew_that_cannot_answer_here_is_not_answered_from_the_one_before(parts: Parts) -> None:
    assert caught_up(parts)
    parts.state.delete_domain("movies")
    parts.state.put_domain(DomainRecord("movies", "a backbone that is loaded elsewhere"))
    assert parts.reconciler.reconcile("movies") is None
    with pytest.raises(ServiceError):
        parts.live.get("movies")


def test_a_version_that_lacks_what_an_import_brought_is_built_before_it_goes_live(parts: Parts, bundle: Make) -> None:
    version = parts.store.add("movies", bundle(1), lambda _: []).version
    parts.activator.pin("movies", version, pinned=True)
    with_base(parts)
    parts.activator.pin("movies", version, pinned=False)
    parts.writer.upsert("movies", [Item(f"news {number}", f"news {number}") for number in range(600)], search=False)
    work(parts)
    parts.activator.pin("movies", version, pinned=True)
    assert parts.live.get("movies").get(version).items.incomplete
    assert [job.kind for job in parts.state.open_jobs()] == ["fold"], "a base is asked for"
    job = parts.activator.submit("movies", version)
    assert not job.ended, "it is no flip"
    work(parts)
    live = parts.live.get("movies").live
    assert (live.version, len(live.items), live.items.incomplete) == (version, len(TEXTS) + 600, False)


def test_a_value_that_lacks_something_never_has_the_number_of_one_that_has_all(parts: Parts) -> None:
    with_base(parts)
    numbers = [caught_up(parts).index_generation]
    parts.writer.upsert("movies", [Item(f"news {number}", f"news {number}") for number in range(600)], search=False)
    numbers.append(caught_up(parts).index_generation)
    work(parts)
    numbers.append(caught_up(parts).index_generation)
    assert numbers[0] <= numbers[1] < numbers[2], "what an import brought and is not seen yet changes no answer"


def test_a_delete_goes_also_where_no_job_can_be_written_down(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Job:
        raise OutOfSpace("no room")

    write_elsewhere(parts, MANY)
    monkeypatch.setattr(parts.jobs, "submit", full)  # as a full Redis, which takes deletes and no jobs
    parts.writer.delete("movies", [TEXTS[3]])
    assert not parts.live.get("movies").live.items.rows([TEXTS[3]])


def test_a_canary_of_an_evicted_domain_can_be_ended(parts: Parts, bundle: Make) -> None:
    version = parts.store.add("movies", bundle(1), lambda _: []).version
    parts.activator.submit("movies", version, ActivateRequest(canary_percent=50))
    work(parts)
    canary = parts.live.get("movies").canary
    assert canary is not None
    parts.live.evict("movies")
    parts.activator.end_canary("movies", "another", "it is not this one")
    assert parts.store.current("movies").percent == 50
    parts.activator.end_canary("movies", canary.digest, "it missed its gate")
    assert parts.store.current("movies").percent == 0
    assert parts.live.get("movies").canary is None


def test_an_item_that_a_patch_does_not_change_is_searchable_when_it_came_with_an_import(parts: Parts) -> None:
    with_base(parts)
    parts.writer.upsert("movies", [Item("news", "news")], search=False)
    assert not caught_up(parts).items.rows(["news"])
    assert parts.writer.change("movies", "news", lambda item: item).unchanged == 1
    assert parts.live.get("movies").live.items.rows(["news"])


def test_an_evicted_deployment_is_not_restored_for_a_later_incarnation_that_changed_as_often(
    parts: Parts, backbone: Backbone
) -> None:
    with_base(parts)
    parts.live.evict("movies")
    generation = parts.state.generation("movies")
    parts.state.delete_domain("movies")
    parts.state.put_domain(DomainRecord("movies", backbone.fingerprint))
    for number in range(generation):
        write_elsewhere(parts, [f"other {number}"])
    parts.reconciler.reconcile("movies")
    assert parts.live.restore("movies") is None
    assert not parts.live.get("movies").live.items.rows(TEXTS)


def test_an_evicted_deployment_is_invalidated_by_a_change_that_was_missed(parts: Parts) -> None:
    with_base(parts)
    parts.live.evict("movies")
    parts.reconciler.reconcile("movies")
    assert parts.live.cached("movies").deployment is not None, "nothing changed"
    delete_elsewhere(parts, TEXTS[3])
    parts.reconciler.reconcile("movies")
    assert parts.live.is_evicted("movies")
    assert parts.live.restore("movies") is None
    assert not parts.live.get("movies").live.items.rows([TEXTS[3]])


def test_what_met_an_error_that_passes_is_brought_up_to_date_without_another_change(parts: Parts, bundle: Make) -> None:
    version = parts.store.add("movies", bundle(1), lambda _: []).version
    parts.activator.submit("movies", version)
    work(parts)
    parts.follower.start()
    path = parts.store.bundle_path("movies", version)
    whole = path.read_bytes()
    damage(path)
    write_elsewhere(parts, ["late"])
    wait_until(lambda: "movies" in parts.reconciler.troubled)
    assert not parts.live.get("movies").live.items.rows(["late"])
    path.write_bytes(whole)
    wait_until(lambda: parts.live.get("movies").live.items.rows(["late"]) != {}, SWEEP_S / 2)
    assert "movies" not in parts.reconciler.troubled


def test_only_the_last_evicted_domains_keep_their_deployments(parts: Parts) -> None:
    with_base(parts)
    table, live = LiveTable(lambda _: None, max_cached=2), caught_up(parts)
    for name in ("a", "b", "c"):
        table.publish(Deployment(replace(live, domain=name)))
        table.evict(name)
    assert [name for name in ("a", "b", "c") if table.cached(name).deployment is not None] == ["b", "c"]
    assert table.restore("a") is None
    back = table.restore("c")
    assert back is not None
    assert back.live.items.rows(TEXTS[:1])


def damage(path: Path) -> None:
    """Overwrite a file's end."""
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"damaged!")
