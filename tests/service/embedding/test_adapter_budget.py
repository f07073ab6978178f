from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_store.bundle import Manifest, write_bundle
from service.embedding.adapter_budget import MAX_TOKENS, AdapterBudget
from service.rollout.activation import MAX_PINNED
from service.settings import Settings
from tests.service.conftest import activate, running, upload, wait_for_job
from tests.tiny import SPEC, TINY_KINDS, tiny_adapter, tiny_backbone, tiny_bundle, tiny_spec
from transrec.adapters import AdapterSpec, Compacter, measure_weights
from transrec.backbone import Backbone

SMALL = AdapterBudget(whole=1 << 20, user=1 << 16)


def spec_of(item: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> AdapterSpec:
    return AdapterSpec.parse({"item": item or {}, "user": user or {}})


@pytest.fixture(scope="module")
def model() -> Backbone:
    return tiny_backbone()


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_a_small_adapter_of_every_kind_is_within_the_budget(model: Backbone, kind: str) -> None:
    assert AdapterBudget(whole=256 << 20, user=4 << 20).find_excess(tiny_spec(kind), model) == []


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_what_is_measured_from_a_spec_is_what_serving_keeps(model: Backbone, kind: str) -> None:
    spec = tiny_spec(kind)
    adapter = tiny_adapter(model, spec=spec)
    kept = []
    for side in (adapter.item, adapter.user):
        serving = side.materialised() if isinstance(side, Compacter) else side
        kept.append(sum(value.nbytes for value in serving.state_dict().values()))
    measured = measure_weights(spec, model.shape)
    assert [measured.item, measured.user] == kept


@pytest.mark.parametrize(
    ("item", "user", "says"),
    [
        (
            {},
            {"kind": "houlsby", "hidden": 65_536},
            "user side: 34603264 bytes of weights, this service allows",
        ),
        ({}, {"kind": "compacter", "hidden": 65_536}, "user side"),
        ({}, {"kind": "k_adapter", "hidden": 4096, "heads": 2}, "user side"),
        ({}, {"kind": "prefix", "tokens": 4096}, "user side"),
        ({"kind": "houlsby", "hidden": 65_536}, {}, "adapter"),
        (
            {"kind": "prompt", "tokens": MAX_TOKENS + 1},
            {},
            f"item side: {MAX_TOKENS + 1} learned tokens",
        ),
        ({"kind": "side", "hidden": 65_536}, {}, "adapter"),
    ],
)
def test_what_is_too_large_is_named_with_its_size_before_anything_is_allocated(
    model: Backbone, item: dict[str, Any], user: dict[str, Any], says: str
) -> None:
    found = SMALL.find_excess(spec_of(item, user), model)
    assert [problem.kind for problem in found] == ["too_large"] * len(found)
    assert found[0].detail.startswith(says)


def test_a_user_side_as_large_as_the_user_encoder_is_always_allowed(model: Backbone) -> None:
    spec = spec_of(user={"kind": "whole"})
    assert AdapterBudget(whole=1 << 20, user=1024).find_excess(spec, model) == []


def test_an_upload_over_the_budget_is_refused_before_its_values_are_read(
    movies: httpx.Client, backbone: Backbone, tmp_path: Path
) -> None:
    spec = AdapterSpec.parse({**SPEC.to_json(), "user": {"kind": "houlsby", "hidden": 9000}})
    adapter = tiny_adapter(backbone, 1, spec, scale=float("nan"))
    answer = upload(movies, tiny_bundle(tmp_path / "wide.safetensors", backbone, "movies", adapter))
    assert (answer.status_code, answer.json()["code"]) == (422, "incompatible_bundle")
    assert [problem["kind"] for problem in answer.json()["errors"]] == ["too_large"], (
        "NaN would be found by reading"
    )
    problem = answer.json()["errors"][0]
    assert problem["got"] > problem["expected"] == 4 * 1024 * 1024
    assert "SWAPREC_MAX_USER_ADAPTER_BYTES" in problem["msg"]
    assert movies.get("/adapters?domain=movies").json()["items"] == []


def test_a_domain_has_a_bounded_number_of_pinned_versions(
    movies: httpx.Client, bundle: Callable[..., Path]
) -> None:
    for seed in range(1, MAX_PINNED + 2):
        assert upload(movies, bundle(seed)).status_code == 201
    path = "/adapters/movies/versions/"
    pins = [
        movies.patch(f"{path}{number}", json={"pinned": True})
        for number in range(1, MAX_PINNED + 2)
    ]
    assert [answer.status_code for answer in pins] == [200] * MAX_PINNED + [409]
    assert "unpin one first" in pins[-1].json()["detail"]
    assert movies.patch(f"{path}1", json={"pinned": True}).status_code == 200
    assert movies.patch(f"{path}1", json={"pinned": False}).status_code == 200
    assert movies.patch(f"{path}{MAX_PINNED + 1}", json={"pinned": True}).status_code == 200


def test_a_lower_limit_takes_no_version_away(tmp_path: Path) -> None:
    real = tiny_backbone(tmp_path / "data" / "backbones" / "tiny")
    spec = AdapterSpec.parse({**SPEC.to_json(), "user": {"kind": "houlsby", "hidden": 100}})
    path = tiny_bundle(tmp_path / "b.safetensors", real, "movies", tiny_adapter(real, 1, spec))
    with running(Settings(data=tmp_path / "data", port=0)) as client:
        client.put("/domains/movies", json={})
        client.post(
            "/domains/movies/items",
            json=[{"item_id": f"i{n}", "title": f"film {n}"} for n in range(9)],
        )
        activate(client, path)
    with running(Settings(data=tmp_path / "data", port=0, max_adapter_bytes=1024)) as client:
        assert (
            client.post("/recommend?domain=movies", json={"history": ["i1"]}).json()["version"] == 1
        )
        assert client.get("/info").json()["backbones"][0]["adapters_in_table"] == 0
        assert upload(client, path).status_code == 422


def test_an_old_bundle_with_bad_metadata_serves_and_is_listed_with_what_is_damaged(
    tmp_path: Path,
) -> None:
    real = tiny_backbone(tmp_path / "data" / "backbones" / "tiny")
    path = tiny_bundle(tmp_path / "b.safetensors", real, "movies", tiny_adapter(real, 1))
    with running(Settings(data=tmp_path / "data", port=0)) as client:
        client.put("/domains/movies", json={})
        client.post(
            "/domains/movies/items",
            json=[{"item_id": f"i{n}", "title": f"film {n}"} for n in range(9)],
        )
        upload(client, path)
        old = _as_accepted_before(tmp_path / "data" / "adapters" / "movies" / "1", real)
        listed = client.get("/adapters")
        assert listed.status_code == 200, listed.text
        card = listed.json()["items"][0]
        assert card["damaged"] == ["curves", "kind", "metrics"]
        assert (card["version"], card["digest"], card["kind"], card["metrics"]) == (
            1,
            old,
            "unknown",
            {},
        )
        assert client.get("/adapters/movies/versions/1").status_code == 200
        job = wait_for_job(client, client.post("/adapters/movies/versions/1/activate").json())
        assert job["status"] == "succeeded", job
    with running(Settings(data=tmp_path / "data", port=0)) as client:
        assert (
            client.post("/recommend?domain=movies", json={"history": ["i1"]}).json()["version"] == 1
        )
        assert client.get("/adapters").json()["items"][0]["damaged"] == [
            "curves",
            "kind",
            "metrics",
        ]


def _as_accepted_before(home: Path, real: Backbone) -> str:
    """Write a version as an earlier release would have accepted it; return its digest."""
    bad: dict[str, Any] = {"kind": "\ud800", "metrics": {"hr": float("nan")}, "curves": {"a": "x"}}
    adapter = tiny_adapter(real, 1)
    manifest = Manifest(
        "movies", spec=adapter.spec.to_json(), backbone=real.fingerprint, dtype="float32", **bad
    )
    tensors = {name: tensor.numpy() for name, tensor in adapter.to_tensors().items()}
    digest = write_bundle(home / "bundle.safetensors", manifest, tensors)
    card = json.loads((home / "card.json").read_text())
    (home / "card.json").write_text(json.dumps(card | bad | {"digest": digest}))
    return digest
