"""What stays of an evicted domain, and what changes of it meanwhile."""

from __future__ import annotations

from dataclasses import replace

from service.http.components import Components
from service.live.table import Deployment, LiveTable
from service.state import DomainRecord
from service.wire.requests import ActivateRequest
from tests.service.conftest import MakeBundle
from tests.service.live.other_process import (
    TEXTS,
    caught_up,
    delete_in_other_process,
    with_base,
    work,
    write_in_other_process,
)
from transrec.backbone import Backbone


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
