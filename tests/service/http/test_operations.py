from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.access.keys import Exposed
from service.data_folder import only_process
from service.errors import StateError
from service.server import PortTaken, listen, serve
from service.settings import Settings
from tests.service.conftest import activate, running
from transrec.backbone import Backbone


def test_probes_answer(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "loading": {},
        "broken": {},
        "degraded": {},
    }


def test_metrics_count_requests_rows_and_memory(movies: httpx.Client) -> None:
    for _ in range(3):
        movies.post("/recommend?domain=movies", json={"history": ["i1"]})
    movies.post("/recommend?domain=movies", json={"history": ["zz"]})
    text = movies.get("/metrics").text
    assert 'swaprec_requests_total{domain="movies",route="/recommend",status="200"} 4.0' in text
    assert "swaprec_batch_rows_sum 3.0" in text
    assert 'swaprec_fallback_total{reason="all_unknown"} 1.0' in text
    assert 'swaprec_index_items{domain="movies"} 60.0' in text
    assert re.search(r'swaprec_memory_bytes\{domain="movies",part="vectors"\} 3840\.0', text)


def test_info_says_what_runs_and_what_each_domain_takes(
    movies: httpx.Client, bundle: Callable[..., Path], backbone: Backbone
) -> None:
    activate(movies, bundle(1))
    info = movies.get("/info").json()
    assert info["state"]["backend"] == "sqlite"
    assert info["backbones"][0]["fingerprint"] == backbone.fingerprint
    assert info["domains"][0]["memory_bytes"]["vectors"] == 60 * 16 * 4
    assert info["domains"][0]["memory_bytes"]["adapter"] > 0


def test_every_error_is_a_problem_with_the_request_id(client: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("DELETE", "/recommend", 405),
        ("GET", "/jobs/x", 404),
    ):
        answer = client.request(method, path, headers={"X-Request-Id": "mine-1"})
        assert (answer.status_code, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine-1"
    strange = client.get("/nowhere", headers={"X-Request-Id": "a b\tc"})
    assert re.fullmatch("[0-9a-f]{32}", strange.headers["x-request-id"])


def test_the_openapi_document_names_every_route_and_its_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/recommend"]["post"]
    assert {"200", "400", "404", "409", "413", "422", "429", "503"} <= set(operation["responses"])
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/RecommendRequest"}
    assert "history" in document["components"]["schemas"]["RecommendRequest"]["properties"]
    assert all(one.get("summary") for path in document["paths"].values() for one in path.values())
    assert "ProblemBody" in document["components"]["schemas"]


def test_a_public_address_is_refused_unless_allowed(tmp_path: Path) -> None:
    public = Settings(data=tmp_path, host="0.0.0.0", port=0)  # noqa: S104 - the point
    with pytest.raises(Exposed, match="SWAPREC_INSECURE=1"):
        serve(public)


def test_the_api_pages_need_no_network(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    used = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(used) >= 3
    for address in used:
        assert address.startswith("/")
        assert client.get(address).status_code == 200


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            PortTaken, match=f"port {port} of 127.0.0.1 is taken: choose another with SWAPREC_PORT"
        ):
            listen(Settings(port=port))


def test_two_services_do_not_share_a_data_folder(tmp_path: Path) -> None:
    twice = pytest.raises(StateError, match="another swaprec serves from")
    with only_process(tmp_path, shared=False), twice, only_process(tmp_path, shared=False):
        pass


def test_two_services_run_in_one_process(tmp_path: Path, backbone: Backbone) -> None:
    backbone.save(tmp_path / "other" / "backbones" / "tiny")
    with (
        running(Settings(data=tmp_path / "data", port=0)) as one,
        running(Settings(data=tmp_path / "other", port=0)) as two,
    ):
        one.put("/domains/a", json={})
        assert len(one.get("/domains").json()["items"]) == 1
        assert two.get("/domains").json()["items"] == []


def test_without_its_backbone_a_domain_says_what_is_missing(
    settings: Settings, tmp_path: Path
) -> None:
    with running(settings) as client:
        client.put("/domains/movies", json={})
    (settings.data / "backbones" / "tiny").rename(tmp_path / "elsewhere")
    with running(settings) as client:
        assert "backbone" in client.get("/readyz").json()["broken"]["movies"]
        assert client.get("/domains/movies").json()["status"] == "broken"
        answer = client.post("/recommend?domain=movies", json={"history": ["a"]})
        assert (answer.status_code, answer.json()["code"]) == (422, "backbone_not_found")
        assert "SWAPREC_BACKBONES" in answer.json()["detail"]
