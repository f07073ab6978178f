"""What a version must reach on its domain's probes,
before it goes live and while it is a canary.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from tests.service.conftest import (
    MakeBundle,
    activate,
    components_of,
    upload,
    wait_for_job,
    wait_until,
)

HISTORIES = [[f"i{number}", f"i{number + 1}"] for number in range(20)]


def ask(client: httpx.Client, history: list[str], version: int) -> list[str]:
    """Return what a version recommends."""
    answer = client.post("/recommend?domain=movies", json={"history": history, "version": version})
    return [item["item_id"] for item in answer.raise_for_status().json()["items"]]


def targets(client: httpx.Client, version: int) -> dict[int, str]:
    """Return for histories, by their places,
    what a version recommends and the other one does not.
    """
    found: dict[int, str] = {}
    for place, history in enumerate(HISTORIES):
        ours, theirs = (ask(client, history, one) for one in (version, 3 - version))
        found.update([(place, item_id) for item_id in ours if item_id not in theirs])
    return found


def put_probes(client: httpx.Client, version: int) -> None:
    """Keep probes that a version answers all and the other one none."""
    probes = [
        {"history": HISTORIES[place], "target": target}
        for place, target in targets(client, version).items()
    ]
    assert len(probes) > 5
    assert client.put("/domains/movies/probes", json=probes).json()["probes"] == len(probes)


def start_canary(client: httpx.Client, version: int, **gate: float) -> dict[str, Any]:
    body = {"canary_percent": 50, "gate": gate}
    answer = client.post(f"/adapters/movies/versions/{version}/activate", json=body)
    assert answer.status_code == 202, answer.text
    return wait_for_job(client, answer.json())


@pytest.fixture
def two(movies: httpx.Client, bundle: MakeBundle) -> httpx.Client:
    """A service whose version 2 is live, and version 1 was."""
    activate(movies, bundle(1))
    activate(movies, bundle(2))
    return movies


def versions(client: httpx.Client) -> tuple[Any, Any]:
    card = client.get("/domains/movies").json()
    return card["live_version"], card["canary_version"]


def test_a_version_that_misses_its_gate_is_refused_with_the_figures_and_the_live_one_stays(
    two: httpx.Client,
) -> None:
    put_probes(two, 2)
    job = two.post(
        "/adapters/movies/versions/1/activate", json={"gate": {"min_hr10": 1.0, "min_ndcg10": 1.0}}
    ).json()
    ended = wait_for_job(two, job)
    assert (ended["status"], ended["error"]["status"], ended["error"]["code"]) == (
        "failed",
        412,
        "gate_failed",
    )
    assert len(ended["error"]["errors"]) == 2, "all that was missed is named"
    assert ended["error"]["figures"]["live"]["version"] == 2
    assert ended["error"]["figures"]["candidate"]["hr"] < 1.0
    assert versions(two) == (2, None)


def test_a_version_that_misses_its_gate_is_one_warning_in_the_log(
    two: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    put_probes(two, 2)
    body = {"gate": {"min_hr10": 0.9}}
    job = two.post("/adapters/movies/versions/1/activate", json=body).json()
    caplog.clear()
    wait_for_job(two, job)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.levelname, record.exc_info) for record in told] == [("WARNING", None)]
    assert "HR@10 is 0.0000, expected at least 0.9" in told[0].getMessage()


def test_an_upload_with_a_gate_goes_live_only_if_it_passes(
    two: httpx.Client, bundle: MakeBundle
) -> None:
    put_probes(two, 2)
    answer = upload(
        two, bundle(3), activate="true", gate=json.dumps({"max_drop": 0.0, "min_overlap": 1.0})
    )
    assert answer.status_code == 202, answer.text
    ended = wait_for_job(two, answer.json()["job"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "gate_failed")
    assert ended["detail"]["gate"]["min_overlap"] == 1.0
    passed = wait_for_job(
        two, upload(two, bundle(3), activate="true", gate='{"min_hr10": 0}').json()["job"]
    )
    assert passed["status"] == "succeeded"
    refused = upload(two, bundle(4), activate="true", gate='{"max_dorp": 0.1}')
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["max_dorp"])
    assert two.get("/adapters?domain=movies").json()["items"][-1]["version"] == 3, (
        "what is refused leaves nothing"
    )


def test_a_canary_that_passed_its_gate_is_taken_back_when_new_probes_say_so(
    two: httpx.Client,
) -> None:
    put_probes(two, 1)
    assert start_canary(two, 1, min_hr10=1.0)["result"]["gate"]["candidate"]["hr"] == 1.0
    assert versions(two) == (2, 1)
    put_probes(two, 1)
    wait_until(lambda: gate_jobs(two) == ["succeeded"])
    assert versions(two) == (2, 1), "the same probes change nothing"
    put_probes(two, 2)
    wait_until(lambda: versions(two) == (2, None))
    reason = components_of(two).store.activations("movies")[-1].reason
    assert reason.startswith("canary ended: HR@10 is ")


def test_a_canary_that_passed_its_gate_is_judged_again_when_its_catalog_was_compacted(
    two: httpx.Client,
) -> None:
    put_probes(two, 1)
    start_canary(two, 1, min_hr10=1.0)
    for target in {*targets(two, 1).values()}:
        two.delete(f"/domains/movies/items/{target}").raise_for_status()
    assert versions(two) == (2, 1)
    components_of(two).reconciler.backlog.request_compaction("movies")
    wait_until(lambda: versions(two) == (2, None))


def test_a_canary_without_a_gate_is_not_judged(two: httpx.Client) -> None:
    body = {"canary_percent": 50}
    two.post("/adapters/movies/versions/1/activate", json=body).raise_for_status()
    put_probes(two, 2)
    assert gate_jobs(two) == []
    assert versions(two) == (2, 1)


def gate_jobs(client: httpx.Client) -> list[str]:
    jobs = client.get("/jobs?domain=movies").json()["items"]
    return [job["status"] for job in jobs if job["kind"] == "judge"]
