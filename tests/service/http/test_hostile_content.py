"""Bodies within their limits that mean harm:
JSON that goes deep, pictures of many pixels in few bytes.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.service.conftest import wait_until
from tests.service.process import serving
from tests.service.stranger import MIB, StrangerAnswer, StrangerService, as_json, whole
from tests.service.test_crashes import free_port
from tests.tiny import tiny_backbone, tiny_picture

MAX_GROWTH = 700 * MIB
MAX_SILENCE_S = 5.0
DEEP = b"[" * 100_000 + b"]" * 100_000
LONG_NUMBER = b"9" * 100_000
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrangerService]:
    data = tmp_path_factory.mktemp("hostile")
    port = free_port()
    tiny_backbone(data / "backbones" / "words")
    tiny_backbone(data / "backbones" / "photos", modalities=("image",))
    with serving(data, port) as running:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for name in ("words", "photos"):
                client.put(f"/domains/{name}", json={"backbone": name}).raise_for_status()
            client.put("/domains/words/items/one", json={"title": "one"}).raise_for_status()
            client.put(
                "/domains/photos/items/one", json={"image_b64": b64(tiny_picture(1))}
            ).raise_for_status()
        yield StrangerService(port, running.pid, data)


@pytest.fixture
def service(process: StrangerService) -> Iterator[StrangerService]:
    with process.bounded(MAX_GROWTH, MAX_SILENCE_S):
        yield process


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


ROUTES = [
    ("POST", "/recommend?domain=words", b'{"history": %s}'),
    ("POST", "/compare?domain=words", b'{"history": [], "arms": %s}'),
    ("POST", "/similar?domain=words", b'{"text": %s}'),
    ("POST", "/embed?domain=words", b'{"items": [%s]}'),
    ("POST", "/domains/words/evaluate", b'{"k": %s}'),
    ("PUT", "/domains/words/probes", b'[{"history": ["a"], "target": %s}]'),
    ("POST", "/domains/words/items", b'[{"item_id": "one", "title": %s}]'),
    ("PUT", "/domains/words/items/one", b'{"title": %s}'),
    ("PUT", "/domains/words/items/two", b'{"title": "t", "attributes": {"a": %s}}'),
    ("PATCH", "/domains/words/items/one", b'{"attributes": {"a": %s}}'),
    ("PUT", "/domains/words", b'{"title": %s}'),
    ("POST", "/adapters/words/versions/1/activate", b'{"canary_percent": %s}'),
    ("PATCH", "/adapters/words/versions/1", b'{"pinned": %s}'),
]
VALUES = {
    "deep": DEEP,
    "a deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a long number": LONG_NUMBER,
    "a large number": b"1e999",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "half a surrogate": b'"\\ud800"',
    "no UTF-8": b'"\xff"',
}


@pytest.mark.parametrize("value", VALUES)
def test_json_that_nothing_can_keep_is_refused_by_every_route(
    service: StrangerService, value: str
) -> None:
    for method, path, body in ROUTES:
        answer = service.send(whole(method, path, body % VALUES[value]))
        seen = (method, path, answer.status, answer.body[:200])
        if path == "/domains/words/items" and answer.status == 200:
            assert as_json(answer)["rejected_count"] == 1, seen
            continue
        assert answer.status in (400, 422), seen
        assert len(answer.body) < 64 * 1024, seen


@pytest.mark.parametrize("value", VALUES)
def test_a_line_that_nothing_can_keep_is_rejected_and_its_neighbours_are_kept(
    service: StrangerService, value: str
) -> None:
    rows = [
        b'{"item_id": "%s", "title": "t", "attributes": {"a": %s}}' % row
        for row in [(b"before", b"1"), (b"bad", VALUES[value]), (b"after", b"1")]
    ]
    answer = service.send(whole("POST", "/domains/words/items", b"\n".join(rows), NDJSON))
    report = as_json(answer)
    assert (answer.status, report["accepted"] + report["unchanged"], report["rejected_count"]) == (
        200,
        2,
        1,
    )


def job_of(service: StrangerService, answer: StrangerAnswer) -> dict[str, Any]:
    """Wait until the job of an answer ended; returns it."""
    assert answer.status == 202, answer.body
    job: dict[str, Any] = as_json(answer)

    def ended() -> bool:
        job.update(httpx.get(f"{service.url}/jobs/{job['id']}", timeout=60).json())
        return job["status"] in ("succeeded", "failed")

    wait_until(ended, 120)
    return job


def test_a_line_of_many_megabytes_is_one_rejected_row(service: StrangerService) -> None:
    line = b'{"item_id": "' + b"x" * (64 * MIB) + b'"}\n{"item_id": "one", "title": "one"}'
    answer = service.send(whole("POST", "/domains/words/items", line, NDJSON))
    job = job_of(service, answer)
    assert (job["status"], job["result"]["rejected_count"], job["result"]["unchanged"]) == (
        "succeeded",
        1,
        1,
    )


def test_a_long_array_of_many_small_lists_keeps_nobody_waiting(service: StrangerService) -> None:
    row = b'{"item_id": "one", "title": "one", "attributes": {"a": [%s]}}' % b",".join(
        [b"[1,2,3]"] * 3000
    )
    body = b"[" + b",".join([row] * 300) + b"]"
    job = job_of(service, service.send(whole("POST", "/domains/words/items", body)))
    assert (job["status"], job["result"]["rejected_count"]) == ("succeeded", 0)


def test_as_many_probes_as_there_may_be_keep_nobody_waiting(service: StrangerService) -> None:
    row = json.dumps(
        {"history": [f"item-{number}" for number in range(30)], "target": "one"}
    ).encode()
    body = b"[" + b",".join([row] * 20_001) + b"]"
    answer = service.send(whole("PUT", "/domains/words/probes", body))
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert "20000" in as_json(answer)["errors"][0]["msg"]


def test_a_form_made_to_be_parsed_slowly_keeps_nobody_waiting(service: StrangerService) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    body = part + b"\r\n-" * (2 * MIB) + b"\r\n--x--\r\n"
    answer = service.send(
        whole("PUT", "/domains/photos/items/bad", body, "multipart/form-data; boundary=x")
    )
    assert answer.status == 422, answer.body


def picture(size: tuple[int, int], form: str = "PNG", mode: str = "RGB", **more: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, form, **more)
    return file.getvalue()


@pytest.fixture(scope="module")
def large() -> bytes:
    """49 million pixels in six kilobytes."""
    return picture((7000, 7000), mode="1")


REFUSED = {
    "a strip": ((10_000, 1), "PNG", "one side at most 100 times the other"),
    "a long side": ((1, 40_000), "PNG", "40000 pixels"),
    "too many pixels": ((7100, 7100), "PNG", "at most 50000000 are read"),
    "a large WebP": ((5000, 5000), "WEBP", "at most 16777216 are read"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_picture_that_is_not_read_is_refused_by_every_way_in(
    service: StrangerService, what: str
) -> None:
    size, form, says = REFUSED[what]
    content = picture(size, form, "1" if form == "PNG" else "RGB")
    image = {"image_b64": b64(content)}
    with httpx.Client(base_url=service.url, timeout=60) as client:
        answers = [
            client.put("/domains/photos/items/bad", json=image),
            client.put("/domains/photos/items/bad?wait=false", json=image),
            client.put("/domains/photos/items/bad", files={"image": ("a", content)}),
            client.patch("/domains/photos/items/one", json=image),
            client.patch("/domains/photos/items/one?wait=false", json=image),
            client.post("/recommend?domain=photos", json={"history": [image]}),
            client.post("/compare?domain=photos", json={"history": [image]}),
            client.post("/similar?domain=photos", json=image),
            client.post("/embed?domain=photos", json={"items": [image]}),
        ]
        report = client.post("/domains/photos/items", json=[{"item_id": "bad"} | image]).json()
    for answer in answers:
        assert (answer.status_code, says in answer.text) == (422, True), (
            answer.request.url,
            answer.text,
        )
    assert says in report["rejected"][0]["detail"]


def test_many_large_pictures_at_once_are_unpacked_one_by_one(
    service: StrangerService, large: bytes
) -> None:
    def embed(_: int) -> int:
        item = {"items": [{"image_b64": b64(large)}]}
        return httpx.post(f"{service.url}/embed?domain=photos", json=item, timeout=120).status_code

    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(embed, range(10))) == {200}


def test_large_pictures_of_one_domain_do_not_keep_another_s_waiting(
    service: StrangerService, large: bytes
) -> None:
    def embed(domain: str, content: bytes) -> int:
        item = {"items": [{"image_b64": b64(content)}]}
        return httpx.post(
            f"{service.url}/embed?domain={domain}", json=item, timeout=120
        ).status_code

    httpx.put(f"{service.url}/domains/other", json={"backbone": "photos"}).raise_for_status()
    with ThreadPoolExecutor(12) as threads:
        flood = [threads.submit(embed, "photos", large) for _ in range(12)]
        wait_until(lambda: any(one.done() for one in flood))
        assert embed("other", tiny_picture(1)) == 200
        assert sum(one.done() for one in flood) <= 6
        assert {one.result() for one in flood} == {200}


def test_the_pictures_of_one_request_have_a_sum(service: StrangerService, large: bytes) -> None:
    items = [{"image_b64": b64(large)}] * 5
    answer = httpx.post(f"{service.url}/embed?domain=photos", json={"items": items}, timeout=120)
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 3)


@pytest.mark.parametrize(
    ("form", "mode", "more"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("PNG", "LA", {}),
        ("GIF", "P", {}),
    ],
    ids=["JPEG", "progressive JPEG", "transparent PNG", "GIF"],
)
def test_a_picture_of_as_many_pixels_as_are_read_is_kept(
    service: StrangerService, form: str, mode: str, more: dict[str, object]
) -> None:
    content = Image.new(mode, (7000, 7000))
    file = io.BytesIO()
    content.save(file, form, **more)
    item = {"image_b64": b64(file.getvalue())}
    assert httpx.put(
        f"{service.url}/domains/photos/items/large", json=item, timeout=120
    ).status_code in (200, 201)
