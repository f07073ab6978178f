"""What the demo shows of a running service: domains filled, a user's films, memory, a swap under requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from swaprec.against import compare
from swaprec.catalog import catalog_items
from swaprec.client import Client
from swaprec.errors import ProblemError, Unreachable
from swaprec.show import bytes_text, interval, table
from training.data import Dataset
from training.run import RunResult

SHOWN = 10
LAST = 5
SWAP_ANSWERS = 50
BASELINES = ("none", "popularity", "item_knn")


@dataclass(frozen=True, slots=True)
class Domain:
    """A target domain as trained: its data and its run."""

    name: str
    dataset: Dataset
    result: RunResult

    @property
    def titles(self) -> list[str]:
        """Titles by catalog row."""
        return self.dataset.items["title"].to_list()


def publish(client: Client, domain: Domain, console: Console) -> None:
    """Create a domain, load its catalog, ask `none` once, push and activate its adapter."""
    client.put_domain(domain.name, title=f"MovieLens-100K, {domain.name}")
    report = client.import_items(domain.name, catalog_items(domain.dataset))
    before = client.recommend(domain.name, [domain.dataset.item_ids[0]], k=1)
    card = client.push(domain.result.artifact, activate=True)
    console.print(
        f"  {domain.name}: {report['accepted'] + report['unchanged']} films, answered by version {before['version']}, "
        f"now by version {card['version']} ({bytes_text(card['size'])})"
    )


def show(client: Client, domains: list[Domain], console: Console) -> dict[str, Any]:
    """Show everything; returns what was measured, by domain."""
    measured: dict[str, Any] = {}
    for domain in domains:
        measured[domain.name] = _user(client, domain, console)
    _quality(domains, console)
    for domain in domains:
        digest = client.domain(domain.name)["live_version"]
        card = client.version(domain.name, digest)
        compared = compare(domain.result.report["test"], domain.dataset, client, domain.name, card["digest"])
        measured[domain.name] |= {"served": compared.served, "difference": compared.difference}
        console.print(
            f"  {domain.name}: served HR@10 {compared.served['hr']:.4f}, trained {compared.offline['hr']:.4f}, "
            f"tied users {compared.offline['tied_users']}: {'the same' if compared.agrees else 'THEY DIFFER'}"
        )
    _memory(client, console)
    measured["swap"] = swap_under_requests(client, domains[0], console)
    return {"domains": measured}


def _user(client: Client, domain: Domain, console: Console) -> dict[str, Any]:
    """Show the first held-out user: the end of the history, the recommendations, the film really watched next."""
    split, titles, ids = domain.dataset.split(), domain.titles, domain.dataset.item_ids
    known, target = split.history("test")[0], int(split.test[0])
    answer = client.recommend(domain.name, [ids[row] for row in known], k=500, include=["metadata"])
    place = next((item["rank"] for item in answer["items"] if item["item_id"] == ids[target]), None)
    user = domain.dataset.user_ids[0]
    seen = ", ".join(titles[row] for row in known[-LAST:])
    console.print(f"\n[bold]{domain.name}[/] user {user} watched {len(known)} films, last: {seen}", soft_wrap=False)
    rows = [
        (item["rank"], item["metadata"]["title"], item["metadata"].get("genres", ""), f"{item['score']:.3f}")
        for item in answer["items"][:SHOWN]
    ]
    console.print(table("", ("rank", "recommended", "genres", "score"), rows, right=(0, 3)))
    of = (
        f"rank {place} of {len(answer['items'])}"
        if place is not None
        else "not a candidate: it had been watched before"
    )
    console.print(f"really watched next: [bold]{titles[target]}[/], {of}")
    return {"user": user, "next": titles[target], "rank": place}


def _quality(domains: list[Domain], console: Console) -> None:
    rows = []
    for domain in domains:
        report = domain.result.report
        rows.append((domain.name, "adapter", interval(report["test"]), f"{report['test']['ndcg']:.4f}"))
        for name in BASELINES:
            found = report["baselines"][name]
            rows.append(("", name.replace("_", "-"), interval(found), f"{found['ndcg']:.4f}"))
    title = "\nAll held-out users, whole catalog (the two domains share their users)"
    console.print(table(title, ("domain", "", "HR@10 [95 %]", "NDCG@10"), rows, right=(3,)))


def _memory(client: Client, console: Console) -> None:
    info = client.info()
    backbone = info["backbones"][0]
    rows = [["(backbone, once)", "", "", "", bytes_text(backbone["memory_bytes"])]]
    for domain in info["domains"]:
        parts = domain["memory_bytes"]
        cells = [bytes_text(parts[name]) for name in ("adapter", "vectors", "ids")]
        rows.append([f"{domain['domain']}@{domain['version']}", *cells, bytes_text(sum(parts.values()))])
    console.print(table("\nMemory", ("", "adapter", "vectors", "ids", "in all"), rows, right=(1, 2, 3, 4)))


class Asker(threading.Thread):
    """Sends requests one after the other until told to stop; counts answers by version."""

    def __init__(self, url: str, domain: str, history: list[str]) -> None:
        super().__init__()
        self._url, self._domain, self._history = url, domain, history
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.enough = threading.Event()

    def wait_for(self, version: str) -> None:
        """Wait until this version has answered some more requests, or some have failed."""
        until, began = self.answers[version] + SWAP_ANSWERS, len(self.failures)
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


def swap_under_requests(client: Client, domain: Domain, console: Console) -> dict[str, Any]:
    """Swap to `none` and roll back while requests run; returns the answers by version and the failures."""
    history = [domain.dataset.item_ids[row] for row in domain.dataset.sequences[0][:LAST]]
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
    told = ", ".join(f"{count} by version {version}" for version, count in sorted(asker.answers.items()))
    console.print(
        f"\n[bold]Swap[/] {domain.name} to none and back to {back} while requests ran: {told}, "
        f"{len(asker.failures)} failed"
    )
    return {"answers": dict(asker.answers), "failures": asker.failures}
