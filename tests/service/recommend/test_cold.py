"""Histories with items that no catalog has: texts and pictures in the request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from service.engine.torch_engine import TorchEngine
from service.recommend.cold import Lane
from service.settings import Settings
from tests.service.conftest import activate, running
from tests.service.http.test_images import b64
from tests.tiny import (
    TINY_KINDS,
    tiny_adapter,
    tiny_backbone,
    tiny_bundle,
    tiny_contents,
    tiny_picture,
    tiny_spec,
    tiny_texts,
)
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.content import Content, Picture
from transrec.embed import embed
from transrec.model import encode_users

COUNT = 25
COLD = ["storm in oslo", "the violin film 99", "news"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_backbone(tmp_path_factory.mktemp("cold") / "tiny")


@pytest.fixture(scope="module")
def adapters(backbone: Backbone) -> dict[str, Adapter | None]:
    """The adapter of each domain: one of every kind, another houlsby, and none."""
    adapters = {
        kind: tiny_adapter(backbone, n, tiny_spec(kind)) for n, kind in enumerate(TINY_KINDS)
    }
    return {**adapters, "second": tiny_adapter(backbone, 50, tiny_spec("houlsby")), "plain": None}


@pytest.fixture(scope="module")
def client(
    backbone: Backbone,
    adapters: dict[str, Adapter | None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    data = tmp_path_factory.mktemp("data")
    backbone.save(data / "backbones" / "tiny")
    with running(Settings(data=data, port=0)) as http:
        rows = [{"item_id": f"i{n}", "title": text} for n, text in enumerate(tiny_texts(COUNT))]
        for name, adapter in adapters.items():
            http.put(f"/domains/{name}")
            http.post(f"/domains/{name}/items", json=rows)
            if adapter is not None:
                activate(http, tiny_bundle(data / f"{name}.safetensors", backbone, name, adapter))
        yield http


def offline(
    backbone: Backbone,
    adapter: Adapter | None,
    history: list[int | Content],
    contents: list[Content],
) -> np.ndarray:
    """Scores of the catalog for a history of rows and of contents that it lacks."""
    fresh = [entry for entry in history if isinstance(entry, Content)]
    dtype = "auto" if adapter is None else "float32"  # as the bundle's manifest says
    vectors = embed(backbone, [*contents, *fresh], adapter, dtype=dtype)
    places = iter(range(len(contents), len(vectors)))
    rows = [entry if isinstance(entry, int) else next(places) for entry in history]
    users = encode_users(
        backbone.model.user_encoder,
        [np.array(rows)],
        vectors,
        None if adapter is None else adapter.user,
    )
    return np.asarray(vectors[: len(contents)] @ users[0])


def scores(answer: dict[str, Any]) -> np.ndarray:
    assert not answer.get("unknown_items"), answer
    return np.array(
        [
            found["score"]
            for found in sorted(answer["items"], key=lambda one: int(one["item_id"][1:]))
        ]
    )


def ask(client: httpx.Client, domain: str, history: list[Any], **more: Any) -> dict[str, Any]:
    body = {"history": history, "k": COUNT, "exclude": {"seen": False}, **more}
    answer = client.post("/recommend", params={"domain": domain}, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_texts_are_read_with_each_domains_own_adapter_while_all_ask_at_once(
    client: httpx.Client, backbone: Backbone, adapters: dict[str, Adapter | None]
) -> None:
    asked = [(name, COLD[: 1 + n % 3]) for n, name in enumerate(list(adapters) * 4)]

    def one(given: tuple[str, list[str]]) -> dict[str, Any]:
        name, texts = given
        return ask(client, name, ["i4", *({"text": text} for text in texts), "i9"])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, asked))
    for (name, texts), answer in zip(asked, answers, strict=True):
        expected = offline(
            backbone, adapters[name], [4, *map(Content, texts), 9], tiny_contents(COUNT)
        )
        # Bfloat16, whose kernels round by the batch.
        close = 1e-4 if adapters[name] is not None else 1e-2
        assert np.allclose(scores(answer), expected, rtol=close, atol=close), name
        assert answer["history_used"] == 2 + len(texts)
        assert not answer["fallback"]["used"]


def test_a_history_of_nothing_known_is_answered_by_the_model(client: httpx.Client) -> None:
    answer = ask(client, "plain", [{"text": "storm in oslo"}])
    assert (answer["fallback"]["used"], answer["history_used"]) == (False, 1)
    again = ask(client, "plain", [{"text": "film 3"}])
    assert scores(again).tolist() != scores(answer).tolist()


def test_the_text_of_an_item_counts_as_the_item(client: httpx.Client) -> None:
    by_text, by_id = (
        ask(client, "houlsby", [entry, "i7"]) for entry in ({"text": tiny_texts(4)[3]}, "i3")
    )
    assert np.allclose(scores(by_text), scores(by_id), rtol=1e-4, atol=1e-5)


def test_only_what_the_network_sees_is_encoded(client: httpx.Client) -> None:
    seen = ["i1", "i2", "i3", "i4", "i5", "i6"]
    answer = ask(client, "houlsby", [{"text": "too long ago"}, *seen])
    assert scores(answer).tolist() == scores(ask(client, "houlsby", seen)).tolist()
    assert (answer["history_used"], answer["history_truncated"]) == (6, True)


def test_an_evicted_adapter_comes_back(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, adapters: Any
) -> None:
    before = {name: scores(ask(client, name, [{"text": "news"}])).tolist() for name in adapters}
    monkeypatch.setattr("service.recommend.cold.MAX_CACHED_VERSIONS", 2)
    for _ in range(2):
        assert {
            name: scores(ask(client, name, [{"text": "news"}])).tolist() for name in adapters
        } == before


def test_compare_reads_them_with_each_versions_adapter(client: httpx.Client) -> None:
    history = [{"text": "storm in oslo"}, "i3"]
    body = {"history": history, "k": 5, "arms": [{"version": 1}, {"version": "none"}]}
    columns = client.post("/compare?domain=houlsby", json=body).json()["arms"]
    assert columns[0]["items"] != columns[1]["items"]
    alone = client.post("/recommend?domain=houlsby", json={"history": history, "k": 5}).json()
    assert columns[0]["items"] == alone["items"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({}, "an object with item_id, or an object with text or image_b64"),
        ({"text": ""}, "at least 1 character"),
        ({"image_b64": b64(tiny_picture(1))}, "it has no text: the backbone reads nothing else"),
        ({"text": "a", "title": "b"}, "history[1].title is no field here"),
    ],
)
def test_a_raw_item_that_cannot_be_read_says_why(
    client: httpx.Client, entry: dict[str, Any], says: str
) -> None:
    answer = client.post("/recommend?domain=plain", json={"history": ["i1", entry]})
    assert answer.status_code == 422
    assert says in answer.text


@pytest.mark.parametrize("modalities", [("image",), ("text", "image")], ids="+".join)
def test_pictures_are_read_too(modalities: Any, tmp_path: Path) -> None:
    backbone = tiny_backbone(tmp_path / "data" / "backbones" / "tiny", modalities=modalities)
    adapters = {
        "a": tiny_adapter(backbone, 1, tiny_spec("houlsby")),
        "b": tiny_adapter(backbone, 2, tiny_spec("side")),
    }
    contents = tiny_contents(COUNT, modalities)
    fresh = Content("storm" if "text" in modalities else "", Picture.of(tiny_picture(77)))
    raw = {"image_b64": b64(tiny_picture(77))} | ({"text": fresh.text} if fresh.text else {})
    with running(Settings(data=tmp_path / "data", port=0)) as http:
        for name, adapter in adapters.items():
            http.put(f"/domains/{name}")
            rows = []
            for n, content in enumerate(contents):
                image = {} if content.image is None else {"image_b64": b64(content.image.read())}
                rows.append(
                    {
                        "item_id": f"i{n}",
                        **image,
                        **({"text": content.text} if content.text else {}),
                    }
                )
            assert http.post(f"/domains/{name}/items", json=rows).json()["rejected_count"] == 0
            activate(http, tiny_bundle(tmp_path / f"{name}.safetensors", backbone, name, adapter))
        for name, adapter in adapters.items():
            found = scores(ask(http, name, ["i2", raw]))
            assert np.allclose(
                found, offline(backbone, adapter, [2, fresh], contents), rtol=1e-4, atol=1e-4
            )
        damaged = http.post(
            "/recommend?domain=a", json={"history": [{"image_b64": b64(tiny_picture(1)[:-40])}]}
        )
        assert (damaged.status_code, "damaged or truncated" in damaged.text) == (422, True)


def test_a_batch_that_fails_raises_for_those_who_wait_and_the_next_one_runs(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a lane reads of it.
    live: Any = SimpleNamespace(domain="plain", version=None, digest="", dtype="float32")
    lane = Lane(
        TorchEngine(backbone, slots=2, max_queue=4), lambda _domain, _version: None, max_queue=4
    )
    contents = [Content("storm in oslo"), Content("news")]
    with monkeypatch.context() as broken:
        broken.setattr(lane, "_answer", lambda _: 1 / 0)  # a mistake where nobody expects one
        with pytest.raises(ZeroDivisionError):
            asyncio.run(lane.vectors(live, contents))
    found = asyncio.run(lane.vectors(live, contents))
    assert np.allclose(found, embed(backbone, contents, dtype="float32"), atol=1e-5)
    lane.close()
