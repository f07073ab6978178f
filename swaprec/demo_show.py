"""What the demo shows of a running service:
domains filled, a user's films, memory, a swap under requests.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from adapters_store.bundle import read_bundle
from service.wire.responses import DomainMemory
from swaprec.against import compare
from swaprec.catalog import catalog_items
from swaprec.client import Client
from swaprec.errors import ProblemError, Stop, Unreachable
from swaprec.show import bytes_text, interval, line, table
from training.data import Dataset
from training.figures import compare_with_baselines, describe_report, format_baseline
from training.run import RunResult

SHOWN_ITEMS = 10
HISTORY_ITEMS = 5
SWAP_ANSWERS = 50
BASELINES = ("none", "popularity", "item_knn")


@dataclass(frozen=True, slots=True)
class DemoDomain:
    """A target domain as trained: its data and its run, and how to speak about it."""

    name: str
    dataset: Dataset
    result: RunResult
    title: str
    noun: str = "films"
    verb: str = "watched"

    @property
    def titles(self) -> list[str]:
        """Titles by catalog row."""
        return self.dataset.items["title"].to_list()


def publish(client: Client, domain: DemoDomain, console: Console) -> None:
    """Create a domain, load its catalog, ask `none` once, push and activate its adapter."""
    items = load_catalog(
        client, domain.name, domain.title, domain.dataset, domain.result.report["backbone"]
    )
    before = client.recommend(domain.name, [domain.dataset.item_ids[0]], k=1)
    card = client.push(domain.result.artifact, activate=True)
    console.print(
        f"  {domain.name}: {items} {domain.noun}, answered by version {before['version']}, "
        f"now by version {card['version']} ({bytes_text(card['size'])})"
    )


def load_catalog(client: Client, name: str, title: str, dataset: Dataset, backbone: str) -> int:
    """Create a domain and load its catalog: version `none` answers from here on.

    Returns the number of items.
    """
    client.put_domain(name, title=title, backbone=backbone)
    report = client.import_items(name, catalog_items(dataset))
    return report["accepted"] + report["unchanged"]


def show(client: Client, domains: list[DemoDomain], console: Console) -> dict[str, Any]:
    """Show everything; returns what was measured.

    Raises:
        Stop: the service does not answer what was trained, or a request failed during the swap.
    """
    measured = {domain.name: _user(client, domain, console) for domain in domains}
    _quality(domains, console)
    for domain in domains:
        measured[domain.name] |= _served(client, domain, console)
    memory = _memory(client, domains[0].result.report["backbone"], console)
    return {
        "domains": measured,
        "memory": memory,
        "swap": swap_under_requests(client, domains[0], console),
    }


def _served(client: Client, domain: DemoDomain, console: Console) -> dict[str, Any]:
    """Ask the service for every held-out user and compare with the trainer."""
    digest = read_bundle(domain.result.artifact).digest
    compared = compare(domain.result.report["test"], domain.dataset, client, domain.name, digest)
    message = f"served HR@10 {compared.served['hr']:.4f}, trained {compared.offline['hr']:.4f}"
    if not compared.agrees:
        raise Stop(
            f"{domain.name}: {message}: they differ by {compared.difference:.4f}",
            "the bar is 0.001",
        )
    console.print(
        f"  {domain.name}: {message}, tied users {compared.offline['tied_users']}: the same"
    )
    return {
        "trained": compared.offline,
        "served": compared.served,
        "difference": compared.difference,
    }


def _user(client: Client, domain: DemoDomain, console: Console) -> dict[str, Any]:
    """Show the first held-out user: the end of the history,
    the recommendations, the film really watched next.
    """
    split = domain.dataset.split()
    titles = domain.titles
    ids = domain.dataset.item_ids
    known = split.history("test")[0]
    target = int(split.test[0])
    answer = client.recommend(domain.name, [ids[row] for row in known], k=500, include=["metadata"])
    place = next((item["rank"] for item in answer["items"] if item["item_id"] == ids[target]), None)
    user = domain.dataset.user_ids[0]
    seen = ", ".join(titles[row] for row in known[-HISTORY_ITEMS:])
    seen = f"user {user} {domain.verb} {len(known)} {domain.noun}, last: {seen}"
    console.print(line(f"\n{domain.name}", f" {seen}"))
    rows = [
        (item["rank"], item["metadata"]["title"], _kind(item["metadata"]), f"{item['score']:.3f}")
        for item in answer["items"][:SHOWN_ITEMS]
    ]
    console.print(table("", ("rank", "recommended", "kind", "score"), rows, right=(0, 3)))
    of = (
        f"rank {place} of {len(answer['items'])}"
        if place is not None
        else f"not a candidate: it had been {domain.verb} before"
    )
    hits = domain.result.report["test"]["hr"]
    users = len(split.test)
    console.print(
        f"really {domain.verb} next: {titles[target]}, {of}; "
        f"of all {users} users {hits:.0%} find theirs among the first 10"
    )
    return {"user": user, "next": titles[target], "rank": place}


def _kind(metadata: dict[str, Any]) -> str:
    return str(metadata.get("genres") or metadata.get("category") or "")


def _quality(domains: list[DemoDomain], console: Console) -> None:
    rows = []
    for domain in domains:
        report = domain.result.report
        rows.append(
            (domain.name, "adapter", interval(report["test"]), f"{report['test']['ndcg']:.4f}")
        )
        for name in BASELINES:
            found = report["baselines"][name]
            rows.append(("", format_baseline(name), interval(found), f"{found['ndcg']:.4f}"))
    console.print(
        line(
            "\nAll held-out users, whole catalog",
            " (comedy and action share users; adressa is synthetic)",
        )
    )
    console.print(table("", ("domain", "", "HR@10 [95 %]", "NDCG@10"), rows, right=(3,)))
    for domain in domains:
        report = domain.result.report
        console.print(f"  {domain.name}: measured on {describe_report(report)}")
        said = compare_with_baselines(report["test"], report["baselines"])
        if said:
            console.print(f"  {domain.name}: {said}")


def _memory(client: Client, fingerprint: str, console: Console) -> list[DomainMemory]:
    info = client.info()
    backbone = next(one for one in info["backbones"] if one["fingerprint"] == fingerprint)
    rows = [["(backbone, once)", "", "", "", bytes_text(backbone["memory_bytes"])]]
    for domain in info["domains"]:
        parts = domain["memory_bytes"]
        cells = [bytes_text(parts[name]) for name in ("adapter", "vectors", "ids")]
        rows.append(
            [f"{domain['domain']}@{domain['version']}", *cells, bytes_text(sum(parts.values()))]
        )
    console.print(line("\nMemory"))
    console.print(table("", ("", "adapter", "vectors", "ids", "in all"), rows, right=(1, 2, 3, 4)))
    return info["domains"]


class Asker(threading.Thread):
    """Sends requests one after the other until asked to stop; counts answers by version."""

    def __init__(self, url: str, domain: str, history: list[str]) -> None:
        super().__init__()
        self._url = url
        self._domain = domain
        self._history = history
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.enough = threading.Event()

    def wait_for(self, version: str) -> None:
        """Wait until this version has answered some more requests, or some have failed."""
        until = self.answers[version] + SWAP_ANSWERS
        began = len(self.failures)
        while self.answers[version] < until and len(self.failures) == began and self.is_alive():
            time.sleep(0.01)

    def run(self) -> None:
        """Ask."""
        with Client(self._url) as client:
            while not self.enough.is_set():
                try:
                    self.answers[str(client.recommend(self._domain, self._history)["version"])] += 1
                except (ProblemError, Unreachable) as error:
                    self.failures.append(str(error))


def swap_under_requests(client: Client, domain: DemoDomain, console: Console) -> dict[str, Any]:
    """Swap to `none` and roll back while requests run; returns the answers by version.

    Raises:
        Stop: a request failed, or one of the two versions did not answer.
    """
    history = [domain.dataset.item_ids[row] for row in domain.dataset.sequences[0][:HISTORY_ITEMS]]
    asker = Asker(client.url, domain.name, history)
    asker.start()
    try:
        before = str(client.domain(domain.name)["live_version"])
        asker.wait_for(before)
        client.activate(domain.name, "none")
        asker.wait_for("none")
        back = client.rollback(domain.name)["version"]
        asker.wait_for(str(back))
    finally:
        asker.enough.set()
        asker.join()
    message = ", ".join(
        f"{count} by version {version}" for version, count in sorted(asker.answers.items())
    )
    if asker.failures or min(asker.answers[before], asker.answers["none"]) < SWAP_ANSWERS:
        why = asker.failures[0] if asker.failures else "a version fell silent"
        raise Stop(
            f"swap of {domain.name} while requests ran: {message}, {len(asker.failures)} failed:"
            f" {why}"
        )
    swapped = f" {domain.name} to none and back to {back} while requests ran: {message}, 0 failed"
    console.print(line("\nSwap", swapped))
    return {"answers": dict(asker.answers), "failures": 0}
