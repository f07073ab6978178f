"""What a process answers from while another one changes more than can be applied here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from service.app import assemble
from service.catalog.live_items import LiveItems
from service.catalog.verify import find_living_rows
from service.http.components import Components
from service.settings import Settings
from service.state import DomainRecord, StoredItem
from tests.service.conftest import MakeBundle
from tests.service.live.other_process import (
    MANY,
    TEXTS,
    caught_up,
    delete_in_other_process,
    with_base,
    work,
    write_in_other_process,
)
from transrec.backbone import Backbone


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
    record = components.state.get_domain("movies")
    components.writer._embed(record, [StoredItem(text, text) for text in [*MANY, TEXTS[3]]])
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
    assert set(now.items.ids(find_living_rows(now.items))) == {
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
