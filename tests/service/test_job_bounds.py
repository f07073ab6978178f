"""A domain has a bounded number of jobs, and what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.app import Tuning
from tests.service.conftest import components_of, upload

NDJSON = {"Content-Type": "application/x-ndjson"}
ROW = b'{"item_id": "new", "title": "storm"}\n'
Submit = Callable[[httpx.Client, Path], httpx.Response]
ASKS: dict[str, Submit] = {
    "import": lambda client, _: client.post(
        "/domains/movies/items?wait=false", content=ROW, headers=NDJSON
    ),
    "large import": lambda client, _: client.post(
        "/domains/movies/items", content=ROW * 40_000, headers=NDJSON
    ),
    "item": lambda client, _: client.put(
        "/domains/movies/items/new?wait=false", json={"title": "storm"}
    ),
    "change": lambda client, _: client.patch(
        "/domains/movies/items/i1?wait=false", json={"available": False}
    ),
    "bundle": lambda client, path: upload(client, path, activate="true"),
    "activation": lambda client, _: client.post(
        "/adapters/movies/versions/none/activate", json={"gate": {}}
    ),
}


@pytest.mark.parametrize("tuning", [Tuning(max_open_jobs=0)], ids=["none"])
@pytest.mark.parametrize("ask", ASKS)
def test_a_job_too_many_is_refused_and_nothing_is_left(
    movies: httpx.Client, bundle: Callable[..., Path], ask: str
) -> None:
    refused = ASKS[ask](movies, bundle(1))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_at_once")
    assert "wait for them, or cancel some" in refused.json()["detail"]
    components = components_of(movies)
    assert list((components.settings.data / "imports").iterdir()) == []
    assert components.state.count_items("movies") == 60
    assert components.store.versions("movies") == []
    assert [job.kind for job in components.state.jobs("movies") if job.kind != "fold"] == []


@pytest.mark.parametrize("tuning", [Tuning(max_open_jobs=2)], ids=["two"])
def test_another_domain_and_small_imports_go_on(movies: httpx.Client) -> None:
    assert movies.put("/domains/books", json={}).status_code == 201
    components = components_of(movies)
    components.jobs.stop()
    import_of = "/domains/{}/items?wait=false"
    statuses = [
        movies.post(import_of.format(domain), content=ROW, headers=NDJSON).status_code
        for domain in ("movies", "movies", "movies", "books")
    ]
    assert statuses == [202, 202, 429, 202]
    assert movies.post("/domains/movies/items", content=ROW, headers=NDJSON).json()["accepted"] == 1
