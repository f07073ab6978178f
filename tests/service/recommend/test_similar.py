"""Neighbours and vectors of items, texts and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.settings import Settings
from tests.service.conftest import activate, running
from tests.tiny import SPEC, tiny_adapter, tiny_backbone, tiny_bundle, tiny_texts
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.embed import embed

COUNT = 40
TEXTS = tiny_texts(COUNT)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_backbone(tmp_path_factory.mktemp("similar") / "tiny")


@pytest.fixture(scope="module")
def adapter(backbone: Backbone) -> Adapter:
    return tiny_adapter(backbone, 3, SPEC)


@pytest.fixture(scope="module")
def client(
    backbone: Backbone, adapter: Adapter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    data = tmp_path_factory.mktemp("data")
    backbone.save(data / "backbones" / "tiny")
    with running(Settings(data=data, port=0)) as http:
        http.put("/domains/movies")
        http.put("/domains/empty")
        rows = [{"item_id": f"i{n}", "title": text} for n, text in enumerate(TEXTS)]
        http.post("/domains/movies/items", json=rows)
        activate(http, tiny_bundle(Path(data) / "b.safetensors", backbone, "movies", adapter))
        yield http


def vectors(backbone: Backbone, adapter: Adapter, texts: list[str]) -> np.ndarray:
    return np.asarray(embed(backbone, texts, adapter, dtype="float32"))


def ask(
    client: httpx.Client, path: str, body: dict[str, Any], domain: str = "movies"
) -> dict[str, Any]:
    answer = client.post(path, params={"domain": domain}, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    "query", [{"item_id": "i4"}, {"text": TEXTS[4]}, {"text": "storm in oslo"}], ids=str
)
def test_neighbours_are_those_of_the_domains_own_vectors(
    client: httpx.Client, backbone: Backbone, adapter: Adapter, query: dict[str, str]
) -> None:
    catalog = vectors(backbone, adapter, TEXTS)
    own = vectors(backbone, adapter, [query.get("text", TEXTS[4])])[0]
    cosine = catalog @ own / np.linalg.norm(catalog, axis=1) / np.linalg.norm(own)
    order = [row for row in np.argsort(-cosine, kind="stable") if "text" in query or row != 4][:7]
    answer = ask(client, "/similar", query | {"k": 7, "include": ["metadata"]})
    assert np.allclose([item["score"] for item in answer["items"]], cosine[order], atol=1e-4)
    assert answer["items"][0]["item_id"] == f"i{order[0]}"
    assert answer["items"][0]["metadata"]["title"] == TEXTS[order[0]]
    assert [item["rank"] for item in answer["items"]] == list(range(1, 8))
    assert answer["version"] == 1


def test_another_version_has_other_neighbours(client: httpx.Client) -> None:
    live, frozen = (
        ask(client, "/similar", {"item_id": "i4", **pin}) for pin in ({}, {"version": "none"})
    )
    assert live["items"] != frozen["items"]
    assert frozen["version"] == "none"


def test_of_a_small_catalog_all_others_are_neighbours(client: httpx.Client) -> None:
    assert len(ask(client, "/similar", {"item_id": "i4", "k": 500})["items"]) == COUNT - 1
    assert len(ask(client, "/similar", {"text": "storm", "k": 500})["items"]) == COUNT
    assert ask(client, "/similar", {"text": "storm"}, "empty")["items"] == []


def test_vectors_of_items_and_of_texts_in_the_order_of_the_request(
    client: httpx.Client, backbone: Backbone, adapter: Adapter
) -> None:
    answer = ask(
        client,
        "/embed",
        {"items": [{"text": "storm"}, "i7", {"item_id": "i2"}, {"text": "oslo news"}]},
    )
    expected = vectors(backbone, adapter, ["storm", TEXTS[7], TEXTS[2], "oslo news"])
    assert np.allclose(answer["vectors"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/similar", {}, 422, "expected either item_id, or text, image_b64 or both"),
        ("/similar", {"item_id": "i1", "text": "a"}, 422, "expected either item_id"),
        ("/similar", {"item_id": "nobody"}, 404, "movies has no item 'nobody'"),
        ("/similar", {"image_b64": "aGVsbG8="}, 422, "it has no text"),
        ("/similar", {"item_id": "i1", "version": 9}, 409, "activate or pin it first"),
        ("/embed", {"items": []}, 422, "at least 1 item"),
        (
            "/embed",
            {"items": ["i1", "nobody", {"item_id": "neither"}]},
            404,
            "no item 'nobody', 'neither'",
        ),
        (
            "/embed",
            {"items": [{}]},
            422,
            "an object with item_id, or an object with text or image_b64",
        ),
    ],
)
def test_what_cannot_be_answered_says_why(
    client: httpx.Client, path: str, body: Any, status: int, says: str
) -> None:
    answer = client.post(path, params={"domain": "movies"}, json=body)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
