"""10,000 requests over two domains during 50 flips:
every answer is the offline answer of the version it names.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.conftest import activate, wait_for_job
from tests.service.process import serving
from tests.service.test_crashes import free_port
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle, tiny_texts
from transrec.backbone import Backbone
from transrec.embed import embed
from transrec.model import encode_users

REQUESTS = 10_000
CONNECTIONS = 8
FLIPS = 50
ITEMS = 400
K = 10
DOMAINS = ("films", "news")
TEXTS = tiny_texts(ITEMS)

Expected = dict[tuple[str, int], np.ndarray]


def histories() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.choice(ITEMS, rng.integers(1, 9), replace=False).tolist() for _ in range(200)]


def offline(backbone: Backbone, asked: list[list[int]]) -> Expected:
    """Scores [histories, items] of each domain and version, what was seen at -inf."""
    scores: Expected = {}
    for place, domain in enumerate(DOMAINS):
        for version in (1, 2):
            adapter = tiny_adapter(backbone, 10 * place + version)
            vectors = embed(backbone, TEXTS, adapter, dtype="float32")
            users = encode_users(
                backbone.model.user_encoder,
                [np.array(rows) for rows in asked],
                vectors,
                adapter.user,
            )
            table = users @ vectors.T
            for line, rows in zip(table, asked, strict=True):
                line[rows] = -np.inf
            scores[domain, version] = table
    return scores


def wrong(answer: dict[str, Any], scores: np.ndarray) -> bool:
    """Whether an answer is not the ranking of these scores; neighbours closer than 1e-4 may stand
    either way.

    Scores near zero are differences of sums near one: there the float32 rounding of those sums is
    what is allowed.
    """
    order = np.argsort(-scores)[:K]
    rounding = 1e-5 * np.abs(scores[np.isfinite(scores)]).max()
    for item, row in zip(answer["items"], order, strict=True):
        found = scores[int(item["item_id"][1:])]
        best = scores[row]
        allowed = max(1e-4 * abs(best), rounding)
        if abs(found - best) > allowed or abs(item["score"] - found) > allowed:
            return True
    return len({item["item_id"] for item in answer["items"]}) != K


@pytest.mark.slow
def test_every_answer_under_swaps_is_the_offline_answer_of_its_version(tmp_path: Path) -> None:
    data = tmp_path / "data"
    port = free_port()
    asked = histories()
    backbone = tiny_backbone(data / "backbones" / "tiny")
    expected = offline(backbone, asked)
    url = f"http://127.0.0.1:{port}"
    seen: set[tuple[str, int]] = set()
    with serving(data, port), httpx.Client(base_url=url, timeout=60) as client:
        for place, domain in enumerate(DOMAINS):
            client.put(f"/domains/{domain}", json={})
            client.post(
                f"/domains/{domain}/items",
                json=[{"item_id": f"i{n}", "title": t} for n, t in enumerate(TEXTS)],
            )
            for version in (1, 2):
                adapter = tiny_adapter(backbone, 10 * place + version)
                activate(
                    client, tiny_bundle(tmp_path / f"{domain}{version}", backbone, domain, adapter)
                )
        done = threading.Event()

        def ask(connection: int) -> list[str]:
            failures = []
            with httpx.Client(base_url=url, timeout=60) as mine:
                for number in range(connection, REQUESTS, CONNECTIONS):
                    domain = DOMAINS[number % 2]
                    place = number % len(asked)
                    body = {"history": [f"i{row}" for row in asked[place]], "k": K}
                    response = mine.post(f"/recommend?domain={domain}", json=body)
                    if response.status_code != 200:
                        failures.append(response.text)
                        continue
                    answer = response.json()
                    seen.add((domain, answer["version"]))
                    if wrong(answer, expected[domain, answer["version"]][place]):
                        failures.append(f"{domain}@{answer['version']} answered {answer['items']}")
            return failures

        def flip() -> int:
            flips = 0
            while not done.is_set() or flips < FLIPS:
                domain = DOMAINS[flips % 2]
                # By activation of a prepared version: a rollback does not return to what it left.
                if flips // 2 % 2:
                    target = 3 - client.get(f"/domains/{domain}").json()["live_version"]
                    answer = client.post(f"/adapters/{domain}/versions/{target}/activate")
                    assert wait_for_job(client, answer.json())["status"] == "succeeded"
                else:
                    assert client.post(f"/domains/{domain}/rollback").status_code == 200
                flips += 1
                done.wait(0.1)
            return flips

        with ThreadPoolExecutor(CONNECTIONS + 1) as pool:
            flipping = pool.submit(flip)
            failures = [failure for found in pool.map(ask, range(CONNECTIONS)) for failure in found]
            done.set()
            flips = flipping.result()
    assert failures == []
    assert flips >= FLIPS
    assert seen == {(domain, version) for domain in DOMAINS for version in (1, 2)}
