"""A memory budget: the least recently used domain is evicted,
loaded on demand, and answers as if it had stayed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.app import Tuning
from service.catalog.compaction_policy import CompactionPolicy
from service.live.follower import FeedIntervals
from service.settings import Settings
from tests.service.conftest import (
    ITEMS,
    MakeBundle,
    activate,
    components_of,
    running,
    upload,
    wait_for_job,
    wait_until,
)

DOMAINS = [f"d{number}" for number in range(6)]
BUDGET = 70_000
"""Room for two domains of sixty items with two warm versions each."""


@pytest.fixture
def tight(settings: Settings) -> Settings:
    return settings.model_copy(update={"memory_bytes": BUDGET})


@pytest.fixture
def full(settings: Settings, bundle: MakeBundle) -> Settings:
    """Six domains with a version each, more than the budget of `tight` holds."""
    with running(settings) as client:
        for number, domain in enumerate(DOMAINS):
            client.put(f"/domains/{domain}", json={})
            client.post(f"/domains/{domain}/items", json=ITEMS)
            activate(client, bundle(number, domain))
    return settings


@pytest.fixture
def budgeted(full: Settings, tight: Settings) -> Iterator[httpx.Client]:
    assert full.data == tight.data
    with running(tight) as client:
        yield client


def ask(client: httpx.Client, domain: str, **wishes: Any) -> httpx.Response:
    return client.post(f"/recommend?domain={domain}", json={"history": ["i1", "i2"], **wishes})


def in_memory(client: httpx.Client) -> set[str]:
    return {card["domain"] for card in client.get("/domains").json()["items"] if card["in_memory"]}


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"swaprec_{name} ")).split()[1])


def test_answers_are_the_same_whether_a_domain_was_evicted_or_not(
    full: Settings, tight: Settings
) -> None:
    with running(full) as client:
        expected = {domain: ask(client, domain).json()["items"] for domain in DOMAINS}
    with running(tight) as client:
        for _ in range(2):
            for domain in DOMAINS:
                answer = ask(client, domain).json()
                assert (answer["items"], answer["version"]) == (expected[domain], 1)
        assert 0 < len(in_memory(client)) < len(DOMAINS)
        assert metric(client, "resident_bytes") <= BUDGET
        assert metric(client, "domain_misses_total") >= len(DOMAINS)
        assert metric(client, "domain_evictions_total") >= len(DOMAINS) - 2
        assert metric(client, "resting_domains") == len(DOMAINS) - len(in_memory(client))


def test_the_least_recently_used_domain_is_evicted(budgeted: httpx.Client) -> None:
    for domain in ("d0", "d1", "d0", "d2", "d0", "d3"):
        assert ask(budgeted, domain).status_code == 200
    assert {"d0", "d3"} <= in_memory(budgeted)
    assert "d1" not in in_memory(budgeted)
    hits = metric(budgeted, "domain_hits_total")
    ask(budgeted, "d0")
    assert metric(budgeted, "domain_hits_total") == hits + 1


def test_a_domain_that_rests_is_ready_and_reports_what_is_live(budgeted: httpx.Client) -> None:
    for domain in ("d4", "d5"):
        ask(budgeted, domain)
    card = budgeted.get("/domains/d0").json()
    assert (card["status"], card["in_memory"], card["live_version"]) == ("ready", False, 1)
    assert card["previous_version"] == "none"
    assert budgeted.get("/readyz").status_code == 200
    assert "d0" not in {one["domain"] for one in budgeted.get("/info").json()["domains"]}


def test_changes_to_an_evicted_domain_are_in_its_next_answer(
    budgeted: httpx.Client, bundle: MakeBundle
) -> None:
    removed = ask(budgeted, "d0").json()["items"][0]["item_id"]
    for domain in ("d4", "d5"):
        ask(budgeted, domain)
    components = components_of(budgeted)
    assert components.live.is_evicted("d0")
    components.writer.delete("d0", [removed])
    upload(budgeted, bundle(90, "d0"))
    components.store.record_activation("d0", 2, "activate")
    components.reconciler.reconcile("d0")
    assert components.live.is_evicted("d0"), "a change alone brings nothing back"
    answer = ask(budgeted, "d0", k=100).json()
    assert answer["version"] == 2
    assert removed not in {item["item_id"] for item in answer["items"]}
    assert ask(budgeted, "d0", version=1).json()["version"] == 1


def test_concurrent_requests_for_an_evicted_domain_load_it_once(budgeted: httpx.Client) -> None:
    for domain in ("d4", "d5"):
        ask(budgeted, domain)
    misses = metric(budgeted, "domain_misses_total")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(budgeted, "d0").status_code, range(64)))
    assert set(answers) == {200}
    assert metric(budgeted, "domain_misses_total") == misses + 1


def test_a_pinned_version_keeps_its_domain_in_memory_and_answers_when_it_is_not_live(
    budgeted: httpx.Client, bundle: MakeBundle
) -> None:
    for seed in (70, 71):
        activate(budgeted, bundle(seed, "d0"))
    first = ask(budgeted, "d0", version=3).json()
    pinned = budgeted.patch("/adapters/d0/versions/1", json={"pinned": True}).json()
    assert (pinned["pinned"], pinned["live"]) == (True, False)
    for domain in DOMAINS[1:]:
        assert ask(budgeted, domain).status_code == 200
    assert "d0" in in_memory(budgeted)
    assert budgeted.get("/domains/d0").json()["pinned_versions"] == [1]
    assert ask(budgeted, "d0", version=1).json()["version"] == 1
    assert ask(budgeted, "d0", version=3).json()["items"] == first["items"]
    refused = budgeted.delete("/adapters/d0/versions/1")
    assert (refused.status_code, refused.json()["code"]) == (409, "version_in_use")
    assert "pinned" in refused.json()["detail"]

    assert (
        budgeted.patch("/adapters/d0/versions/1", json={"pinned": False}).json()["pinned"] is False
    )
    assert ask(budgeted, "d0", version=1).status_code == 409
    for domain in DOMAINS[1:]:
        ask(budgeted, domain)
    assert "d0" not in in_memory(budgeted)
    assert budgeted.delete("/adapters/d0/versions/1").status_code == 204


def test_an_evicted_domain_is_loaded_when_a_version_of_it_is_pinned_and_after_a_restart(
    full: Settings, tight: Settings
) -> None:
    with running(tight) as client:
        ask(client, "d1")
        ask(client, "d2")
        assert "d0" not in in_memory(client)
        assert client.patch("/adapters/d0/versions/1", json={"pinned": True}).json()["pinned"]
        assert "d0" in in_memory(client)
        for domain in DOMAINS[1:]:
            ask(client, domain)
        assert "d0" in in_memory(client)
        client.patch("/adapters/d5/versions/1", json={"pinned": True})
    with running(tight) as client:
        assert {"d0", "d5"} <= in_memory(client)
    assert full.data == tight.data


def test_a_gate_compares_with_the_live_version_of_an_evicted_domain(
    budgeted: httpx.Client, bundle: MakeBundle
) -> None:
    probes = [{"history": [f"i{number}"], "target": f"i{number + 1}"} for number in range(20)]
    assert budgeted.put("/domains/d0/probes", json=probes).status_code == 200
    for domain in ("d4", "d5"):
        ask(budgeted, domain)
    assert "d0" not in in_memory(budgeted)
    upload(budgeted, bundle(80, "d0"))
    job = budgeted.post("/adapters/d0/versions/2/activate", json={"gate": {"max_drop": 1.0}}).json()
    ended = wait_for_job(budgeted, job)
    assert ended["result"]["gate"]["live"]["version"] == 1, ended


def test_pinning_what_does_not_exist_says_what_does(budgeted: httpx.Client) -> None:
    answer = budgeted.patch("/adapters/d0/versions/9", json={"pinned": True})
    assert (answer.status_code, answer.json()["code"]) == (404, "version_not_found")
    assert budgeted.patch("/adapters/d0/versions/1", json={"pinned": "perhaps"}).status_code == 422


def test_a_domain_larger_than_the_budget_is_served_all_the_same(full: Settings) -> None:
    with running(full.model_copy(update={"memory_bytes": 1})) as client:
        for domain in (*DOMAINS, *DOMAINS):
            assert ask(client, domain).status_code == 200
            assert in_memory(client) == {domain}


def test_under_threads_that_ask_and_change_nobody_gets_another_domains_items(
    budgeted: httpx.Client,
) -> None:
    for domain in DOMAINS:
        budgeted.put(
            f"/domains/{domain}/items/own-{domain}",
            json={"title": f"Own of {domain}", "popularity": 99},
        )
    wrong: list[str] = []
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            domain = DOMAINS[number % len(DOMAINS)]
            budgeted.put(
                f"/domains/{domain}/items/i{number % 60}", json={"title": f"Again {number}"}
            )
            number += 1

    def asks(number: int) -> None:
        domain = DOMAINS[number % len(DOMAINS)]
        answer = ask(budgeted, domain, k=100)
        found = {item["item_id"] for item in answer.json().get("items", ())}
        if answer.status_code != 200 or f"own-{domain}" not in found or len(found) != 59:
            wrong.append(f"{domain}: {answer.status_code} {len(found)}")

    changing = threading.Thread(target=change)
    changing.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(asks, range(200)))
    done.set()
    changing.join()
    assert wrong == []


def test_a_small_catalog_that_stays_as_it_is_gets_a_base_and_a_snapshot(settings: Settings) -> None:
    soon = Tuning(feed=FeedIntervals(sweep_s=0.1), compaction=CompactionPolicy(idle_s=0.2))
    with running(settings, tuning=soon) as client:
        for domain in ("few", "empty"):
            client.put(f"/domains/{domain}", json={"title": f"The {domain}"})
        client.post("/domains/few/items", json=ITEMS[:3])
        for domain in ("few", "empty"):
            wait_until((settings.data / "snapshots" / domain / "snapshot.json").exists)
        components = components_of(client)
        wait_until(
            lambda: all(
                components.live.get(domain).live.items.base.is_kept for domain in ("few", "empty")
            )
        )
        assert {item["item_id"] for item in ask(client, "few", history=[]).json()["items"]} == {
            "i0",
            "i1",
            "i2",
        }
        assert ask(client, "empty", history=[]).json()["fallback"]["reason"] == "empty_catalog"
        compactions = [job for job in client.get("/jobs").json()["items"] if job["kind"] == "fold"]
        assert len(compactions) == 2, "a compacted catalog is not compacted again"
