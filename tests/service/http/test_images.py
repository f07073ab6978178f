"""Domains whose backbone reads images, or texts and images."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.settings import Settings
from tests.service.conftest import activate, running, upload, wait_for_job
from tests.tiny import (
    tiny_adapter,
    tiny_backbone,
    tiny_bundle,
    tiny_contents,
    tiny_picture,
    tiny_spec,
)
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.embed import embed
from transrec.model import encode_users
from transrec.seam import Modality

Modalities = tuple[Modality, ...]
SETS: dict[str, Modalities] = {"words": ("text",), "photos": ("image",), "shop": ("text", "image")}
COUNT = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backbones")


@pytest.fixture(scope="module")
def backbones(folder: Path) -> dict[str, Backbone]:
    return {
        name: tiny_backbone(folder / name, modalities=modalities)
        for name, modalities in SETS.items()
    }


@pytest.fixture(scope="module")
def settings(
    folder: Path, backbones: dict[str, Backbone], tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return Settings(
        data=tmp_path_factory.mktemp("images"),
        backbones=tuple(folder / name for name in backbones),
        port=0,
    )


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[httpx.Client]:
    """One service with three backbones, each with a domain of its name."""
    with running(settings) as http:
        for name, modalities in SETS.items():
            assert http.put(f"/domains/{name}", json={"backbone": name}).status_code == 201
            answer = http.post(
                f"/domains/{name}/items",
                json=[
                    item(n, content) for n, content in enumerate(tiny_contents(COUNT, modalities))
                ],
            )
            assert answer.json()["accepted"] == COUNT, answer.text
        yield http


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def item(number: int, content: Content) -> dict[str, Any]:
    text = {"text": content.text} if content.text else {}
    image = {"image_b64": b64(content.image.read())} if content.image is not None else {}
    return {"item_id": f"i{number}", "popularity": number} | text | image


def ranking(
    backbone: Backbone, modalities: Modalities, history: list[int], adapter: Any = None
) -> list[str]:
    """The offline answer to a history."""
    dtype = "auto" if adapter is None else "float32"  # as the bundle's manifest says
    vectors = embed(backbone, tiny_contents(COUNT, modalities), adapter, dtype=dtype)
    user = encode_users(
        backbone.model.user_encoder, [np.array(history)], vectors, adapter and adapter.user
    )[0]
    return [f"i{row}" for row in (-(vectors @ user)).argsort(kind="stable") if row not in history][
        :8
    ]


@pytest.mark.parametrize("name", SETS)
def test_three_backbones_in_one_service_each_answer_as_offline(
    client: httpx.Client, backbones: dict[str, Backbone], name: str
) -> None:
    answer = client.post(
        "/recommend", params={"domain": name}, json={"history": ["i3", "i7", "i9"], "k": 8}
    ).json()
    assert [found["item_id"] for found in answer["items"]] == ranking(
        backbones[name], SETS[name], [3, 7, 9]
    )
    assert answer["digest"] == backbones[name].fingerprint


@pytest.mark.parametrize("name", ["photos", "shop"])
def test_a_new_version_embeds_the_kept_pictures_again(
    client: httpx.Client, backbones: dict[str, Backbone], name: str, tmp_path: Path
) -> None:
    backbone = backbones[name]
    adapter = tiny_adapter(backbone, 5, tiny_spec("houlsby"))
    activate(client, tiny_bundle(tmp_path / "bundle.safetensors", backbone, name, adapter))
    answer = client.post(
        "/recommend", params={"domain": name}, json={"history": ["i3", "i7"], "k": 8}
    ).json()
    assert answer["version"] == 1
    assert [found["item_id"] for found in answer["items"]] == ranking(
        backbone, SETS[name], [3, 7], adapter
    )
    assert client.post(f"/domains/{name}/rollback").status_code == 200


def test_an_item_names_its_picture_and_equal_pictures_are_kept_once(
    client: httpx.Client, settings: Settings
) -> None:
    shown = client.get("/domains/photos/items/i3").json()
    assert shown["image"] == tiny_contents(4, ("image",))[3].image.digest  # type: ignore[union-attr]
    assert shown["text"] == ""
    before = sorted(path.name for path in (settings.data / "blobs").glob("*/*"))
    assert shown["image"] in before
    row = {
        "item_id": "again",
        "image_b64": "data:image/png;base64," + b64(tiny_picture(3)),
        "title": "the same",
    }
    assert client.post("/domains/photos/items", json=[row]).json()["accepted"] == 1
    assert sorted(path.name for path in (settings.data / "blobs").glob("*/*")) == before
    answer = client.post(
        "/recommend", params={"domain": "photos"}, json={"history": ["i8"], "k": 40}
    ).json()
    scores = {found["item_id"]: found["score"] for found in answer["items"]}
    assert scores["again"] == scores["i3"]
    assert client.get("/domains/photos/items/again").json()["metadata"] == {"title": "the same"}


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("photos", {"title": "no picture"}, "image_b64 is needed: it is what the model reads"),
        ("shop", {}, "title or text or image_b64 is needed"),
        (
            "words",
            {"image_b64": b64(tiny_picture(1))},
            "the backbone of this domain reads texts only",
        ),
        ("photos", {"image_b64": "%%%"}, "image_b64: not base64"),
        ("photos", {"image_b64": b64(b"GIF89a no")}, "image_b64: "),
        (
            "shop",
            {"title": "t", "image_b64": b64(tiny_picture(1)[:-50])},
            "image_b64: damaged or truncated",
        ),
    ],
)
def test_what_the_model_cannot_read_is_rejected_by_name_and_the_rest_is_stored(
    client: httpx.Client, name: str, row: dict[str, Any], says: str
) -> None:
    good = {"item_id": "i1", **item(1, tiny_contents(2, SETS[name])[1])}
    body = "\n".join(json.dumps(one) for one in (good, {"item_id": "bad", **row}))
    report = client.post(
        f"/domains/{name}/items", content=body, headers={"content-type": "application/x-ndjson"}
    ).json()
    assert (report["unchanged"], report["rejected_count"]) == (1, 1)
    assert says in report["rejected"][0]["detail"]
    assert client.get(f"/domains/{name}/items/bad").status_code == 404


def test_a_restart_answers_the_same_from_the_kept_pictures(tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "photos", modalities=("image",))
    settings = Settings(data=tmp_path / "data", backbones=(tmp_path / "photos",), port=0)
    asked = {"history": ["i3", "i7"], "k": 8}
    with running(settings) as http:
        http.put("/domains/photos")
        rows = [item(n, content) for n, content in enumerate(tiny_contents(COUNT, ("image",)))]
        http.post("/domains/photos/items", json=rows)
        before = http.post("/recommend?domain=photos", json=asked).json()["items"]
    for path in (tmp_path / "data" / "vectors").rglob("*.safetensors"):
        path.unlink()  # derived: embedded again from the pictures
    with running(settings) as http:
        assert http.post("/recommend?domain=photos", json=asked).json()["items"] == before


def test_a_lost_picture_fails_the_activation_by_name_and_the_old_version_goes_on(
    tmp_path: Path,
) -> None:
    backbone = tiny_backbone(tmp_path / "photos", modalities=("image",))
    settings = Settings(data=tmp_path / "data", backbones=(tmp_path / "photos",), port=0)
    contents = tiny_contents(COUNT, ("image",))
    asked = {"history": ["i3", "i7"], "k": 8}
    bundle = tiny_bundle(
        tmp_path / "b.safetensors",
        backbone,
        "photos",
        tiny_adapter(backbone, 5, tiny_spec("houlsby")),
    )
    with running(settings) as http:
        http.put("/domains/photos")
        http.post(
            "/domains/photos/items", json=[item(n, content) for n, content in enumerate(contents)]
        )
        before = http.post("/recommend?domain=photos", json=asked).json()
        assert contents[9].image is not None
        lost = contents[9].image.digest
        (settings.data / "blobs" / lost[:2] / lost).unlink()
        job = wait_for_job(http, upload(http, bundle, activate="true").json()["job"])
        assert (job["status"], job["error"]["code"]) == ("failed", "picture_unreadable")
        assert f"{lost}: cannot be read: No such file" in job["error"]["detail"]
        after = http.post("/recommend?domain=photos", json=asked).json()
        assert (after["version"], after["items"]) == ("none", before["items"])
        again = [item(9, contents[9])]  # the picture comes back with its item
        assert http.post("/domains/photos/items", json=again).json()["unchanged"] == 1
        job = http.post("/adapters/photos/versions/1/activate").json()
        assert wait_for_job(http, job)["status"] == "succeeded"


def test_an_item_may_come_as_a_form_with_its_picture_as_a_file(client: httpx.Client) -> None:
    place = "/domains/shop/items/formed"
    first = tiny_picture(901)
    second = tiny_picture(902)
    files = {"image": ("poster.png", first, "image/png")}
    data = {"title": "Heat", "popularity": "3", "attributes": '{"year": 1995}', "category": "1995"}
    answer = client.put(place, files=files, data=data)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["text"], shown["popularity"]) == ("Heat", 3)
    assert shown["metadata"] == {"title": "Heat", "category": "1995", "year": 1995}
    by_json = {"title": "Heat", "popularity": 3, "attributes": {"year": 1995}, "category": "1995"}
    same = client.put(place, json=by_json | {"image_b64": b64(first)})
    assert (same.status_code, same.json()) == (200, shown)
    changed = client.patch(place, files={"image": ("poster.png", second, "image/png")})
    assert changed.json()["image"] not in ("", shown["image"])
    client.delete(place).raise_for_status()


def test_a_form_that_is_wrong_is_refused_by_name(client: httpx.Client) -> None:
    place = "/domains/shop/items/formed"
    picture = ("poster.png", tiny_picture(903), "image/png")
    unknown = client.put(
        place, files={"image": picture}, data={"titel": "Heat", "popularity": "much"}
    )
    assert unknown.status_code == 422
    assert {tuple(error["loc"]) for error in unknown.json()["errors"]} == {
        ("titel",),
        ("popularity",),
    }
    other = client.put(place, files={"poster": picture}, data={"title": "Heat"})
    assert (other.status_code, "expected a file named image" in other.json()["detail"]) == (
        400,
        True,
    )
    two = client.put(
        place, files=[("image", picture), ("title", (None, "a")), ("title", (None, "b"))]
    )
    assert (two.status_code, "two parts named 'title'" in two.json()["detail"]) == (400, True)
    broken = client.put(place, content=b"--x", headers={"Content-Type": "multipart/form-data"})
    assert broken.status_code == 400
    damaged = client.put(
        place, files={"image": ("a.png", b"no picture", "image/png")}, data={"title": "Heat"}
    )
    assert damaged.status_code == 422
    assert client.get(place).status_code == 404
