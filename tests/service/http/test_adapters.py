from __future__ import annotations

import gc
import io
import pickle
from pathlib import Path

import httpx
import numpy as np
import pytest

from adapters_store.bundle import read_bundle, write_bundle
from service.settings import Settings
from tests.service.conftest import MakeBundle, activate, running, upload, wait_for_job
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle
from transrec.backbone import Backbone

FIELD_ONLY = b"--x\r\nContent-Disposition: form-data; name=activate\r\n\r\ntrue\r\n--x--\r\n"


def version(client: httpx.Client) -> int | str:
    found: int | str = client.post("/recommend?domain=movies", json={"history": ["i1"]}).json()[
        "version"
    ]
    return found


def files(settings: Settings) -> set[str]:
    store = settings.data / "adapters"
    return {
        str(path.relative_to(store))
        for path in store.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_an_upload_becomes_a_version_and_changes_nothing_until_activated(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    answer = upload(movies, bundle(1))
    assert (answer.status_code, answer.headers["location"]) == (201, "/adapters/movies/versions/1")
    assert answer.json()["digest"] == read_bundle(bundle(1)).digest
    assert version(movies) == "none"
    job = wait_for_job(movies, movies.post("/adapters/movies/versions/1/activate").json())
    assert (job["status"], job["stage"], job["result"]["version"]) == ("succeeded", "flip", 1)
    assert version(movies) == 1


def test_the_same_bytes_again_are_the_existing_version(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    upload(movies, bundle(1))
    again = upload(movies, bundle(1))
    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert len(movies.get("/adapters?domain=movies").json()["items"]) == 1


def test_rollbacks_go_back_at_once_ever_further_and_never_to_what_was_left(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    activate(movies, bundle(1))
    activate(movies, bundle(2))
    assert movies.post("/domains/movies/rollback").json()["version"] == 1
    assert version(movies) == 1
    assert movies.get("/domains/movies").json()["previous_version"] == "none"
    assert movies.post("/domains/movies/rollback").json()["version"] == "none"
    refused = movies.post("/domains/movies/rollback")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "it has 1, 2" in refused.json()["detail"]
    wait_for_job(movies, movies.post("/adapters/movies/versions/2/activate").json())
    assert version(movies) == 2
    assert movies.post("/domains/movies/rollback").json()["version"] == "none"


def test_there_is_nothing_to_go_back_to_before_a_first_activation(movies: httpx.Client) -> None:
    answer = movies.post("/domains/movies/rollback")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_none_can_be_activated_like_any_version(movies: httpx.Client, bundle: MakeBundle) -> None:
    activate(movies, bundle(1))
    wait_for_job(movies, movies.post("/adapters/movies/versions/none/activate").json())
    assert version(movies) == "none"
    assert movies.get("/domains/movies").json()["previous_version"] == 1


def test_the_index_generation_counts_up_with_every_published_value(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    def generation() -> int:
        return int(
            movies.post("/recommend?domain=movies", json={"history": ["i1"]}).json()[
                "index_generation"
            ]
        )

    first = generation()
    activate(movies, bundle(1))
    second = generation()
    movies.post("/domains/movies/items", json=[{"item_id": "new", "title": "storm"}])
    assert first < second < generation()


def test_a_bundle_of_another_backbone_is_refused_with_every_problem_and_leaves_nothing(
    movies: httpx.Client, tmp_path: Path, settings: Settings
) -> None:
    other = tiny_backbone(tmp_path / "other", seed=9, width=8)
    path = tiny_bundle(tmp_path / "foreign.safetensors", other, "movies", tiny_adapter(other))
    answer = upload(movies, path)
    assert (answer.status_code, answer.json()["code"]) == (422, "incompatible_bundle")
    kinds = [error["kind"] for error in answer.json()["errors"]]
    assert "backbone_mismatch" in kinds
    assert kinds.count("shape_mismatch") > 3
    assert files(settings) == set()


def test_a_bundle_with_nan_is_refused_by_tensor(
    movies: httpx.Client, bundle: MakeBundle, tmp_path: Path
) -> None:
    good = read_bundle(bundle(1))
    tensors = {**good.tensors, "item.0.ffn.up.bias": np.full(16, np.nan, np.float32)}
    write_bundle(tmp_path / "nan.safetensors", good.manifest, tensors)
    answer = upload(movies, tmp_path / "nan.safetensors")
    assert answer.status_code == 422
    assert [error["tensor"] for error in answer.json()["errors"]] == ["item.0.ffn.up.bias"]


def test_pickles_are_refused_with_how_to_convert(movies: httpx.Client, settings: Settings) -> None:
    answer = movies.post("/adapters", files={"file": io.BytesIO(pickle.dumps({"a": [1.0] * 100}))})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert "safetensors.torch.save_file" in answer.json()["detail"]
    assert files(settings) == set()


def test_a_truncated_bundle_is_refused(
    movies: httpx.Client, bundle: MakeBundle, settings: Settings
) -> None:
    content = bundle(1).read_bytes()[:-100]
    answer = movies.post("/adapters", files={"file": io.BytesIO(content)})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["kind"] == "truncated"
    assert files(settings) == set()


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x", 400),
        (
            b"--x\r\nContent-Disposition: form-data; name=activate\r\n\r\ntrue\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            400,
        ),
        (b"{}", "application/json", 415),
        (b"abc", "", 415),
    ],
)
def test_what_is_no_upload_is_answered_with_how_to_make_one(
    movies: httpx.Client, content: bytes, kind: str, status: int
) -> None:
    answer = movies.post("/adapters", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text


def test_an_upload_over_the_limit_is_stopped_while_it_streams(
    tmp_path: Path, backbone: Backbone
) -> None:
    settings = Settings(data=tmp_path / "data", port=0, max_bundle_bytes=4096)
    with running(settings) as client:
        client.put("/domains/movies", json={})
        answer = client.post("/adapters", files={"file": io.BytesIO(b"\x10" + b"\0" * 5_000_000)})
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
        assert files(settings) == set()
        assert client.get("/livez").status_code == 200
    assert backbone.fingerprint


def test_an_unknown_domain_is_refused_unless_it_shall_be_created(
    client: httpx.Client, bundle: MakeBundle
) -> None:
    assert upload(client, bundle(1, "books")).json()["code"] == "domain_not_found"
    answer = upload(client, bundle(1, "books"), create="true", activate="true")
    assert answer.status_code == 202
    assert wait_for_job(client, answer.json()["job"])["status"] == "succeeded"
    assert client.get("/domains/books").json()["live_version"] == 1


def test_a_domain_that_contradicts_the_manifest_is_refused(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    movies.put("/domains/books", json={})
    answer = upload(movies, bundle(1), domain="books")
    assert answer.status_code == 422
    assert "names domain 'movies'" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["../evil", "..", "UPPER case", "books"])
def test_a_refused_upload_creates_no_domain_whatever_name_it_gives(
    client: httpx.Client, bundle: MakeBundle, name: str
) -> None:
    answer = upload(client, bundle(1, "films"), create="true", domain=name)
    assert (answer.status_code, "nothing was created" in answer.json()["detail"]) == (422, True)
    assert client.get("/domains").json()["items"] == []
    assert client.get("/adapters").json()["items"] == []


def test_a_bundle_that_does_not_fit_creates_no_domain(
    client: httpx.Client, bundle: MakeBundle, tmp_path: Path, settings: Settings
) -> None:
    good = read_bundle(bundle(1, "books"))
    tensors = {**good.tensors, "item.0.ffn.up.bias": np.full(16, np.nan, np.float32)}
    write_bundle(tmp_path / "nan.safetensors", good.manifest, tensors)
    answer = upload(client, tmp_path / "nan.safetensors", create="true")
    assert (answer.status_code, answer.json()["code"]) == (422, "incompatible_bundle")
    assert client.get("/domains").json()["items"] == []
    assert files(settings) == set()


def test_the_domain_in_the_address_must_agree_too(
    movies: httpx.Client, bundle: MakeBundle, settings: Settings
) -> None:
    movies.put("/domains/books", json={})
    for params, fields in (({"domain": "books"}, {}), ({"domain": "movies"}, {"domain": "books"})):
        with bundle(1).open("rb") as file:
            answer = movies.post("/adapters", params=params, files={"file": file}, data=fields)
        assert answer.status_code == 422, answer.text
    assert files(settings) == set()
    with bundle(1).open("rb") as file:
        assert (
            movies.post("/adapters", params={"domain": "movies"}, files={"file": file}).status_code
            == 201
        )


def test_a_misspelled_field_and_a_second_file_are_refused(
    movies: httpx.Client, bundle: MakeBundle, settings: Settings
) -> None:
    answer = upload(movies, bundle(1), activat="true")
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["body", "activat"])
    content = bundle(1).read_bytes()
    answer = movies.post("/adapters", files=[("file", ("a", content)), ("file", ("b", content))])
    assert (answer.status_code, "two parts named file" in answer.json()["detail"]) == (400, True)
    assert files(settings) == set()


def test_a_version_is_shown_downloaded_and_deleted(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    for seed in (1, 2, 3):
        upload(movies, bundle(seed))
    card = movies.get("/adapters/movies/versions/3").json()
    assert (card["kind"], card["live"], card["dtype"]) == ("houlsby", False, "float32")
    assert movies.get("/adapters/movies/versions/3/file").content == bundle(3).read_bytes()
    assert movies.delete("/adapters/movies/versions/3").status_code == 204
    assert movies.get("/adapters/movies/versions/3").status_code == 404
    assert upload(movies, bundle(4)).json()["version"] == 4


def test_the_live_version_is_not_deleted(movies: httpx.Client, bundle: MakeBundle) -> None:
    activate(movies, bundle(1))
    answer = movies.delete("/adapters/movies/versions/1")
    assert (answer.status_code, answer.json()["code"]) == (409, "version_in_use")


@pytest.mark.parametrize(
    ("named", "status"), [("9", 404), ("latest", 422), ("0", 422), ("²", 422), ("9" * 5000, 422)]
)
def test_activating_what_is_not_there_queues_nothing(
    movies: httpx.Client, named: str, status: int
) -> None:
    assert movies.post(f"/adapters/movies/versions/{named}/activate").status_code == status
    assert movies.get("/jobs").json()["items"] == []


def test_an_activation_that_fails_leaves_the_old_version_serving(
    movies: httpx.Client, bundle: MakeBundle, settings: Settings
) -> None:
    activate(movies, bundle(1))
    upload(movies, bundle(2))
    path = settings.data / "adapters" / "movies" / "2" / "bundle.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    job = wait_for_job(movies, movies.post("/adapters/movies/versions/2/activate").json())
    assert job["status"] == "failed"
    assert "upload it again" in job["error"]["detail"]
    assert version(movies) == 1


def test_a_restart_answers_from_what_was_live(settings: Settings, bundle: MakeBundle) -> None:
    with running(settings) as client:
        client.put("/domains/movies", json={})
        client.post(
            "/domains/movies/items",
            json=[{"item_id": f"i{n}", "title": f"film {n}"} for n in range(30)],
        )
        activate(client, bundle(1))
        activate(client, bundle(2))
        before = client.post("/recommend?domain=movies", json={"history": ["i1", "i2"]}).json()
    with running(settings) as client:
        after = client.post("/recommend?domain=movies", json={"history": ["i1", "i2"]}).json()
        assert after["items"] == before["items"]
        assert (after["version"], after["digest"]) == (2, before["digest"])
        assert after["index_generation"] == before["index_generation"], (
            "the same items under the same version"
        )
        assert client.post("/domains/movies/rollback").json()["version"] == 1


def test_slots_are_given_back_when_old_versions_are_removed(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    for seed in range(1, 7):
        activate(movies, bundle(seed))
    gc.collect()
    assert movies.get("/info").json()["backbones"][0]["adapters_in_table"] <= 3
