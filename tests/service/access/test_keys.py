from __future__ import annotations

import logging
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.access.keys import Exposed, KeyFile, KeyNotFound, Keys, open_keys
from service.app import create_app
from service.errors import KeyInvalid, ScopeDenied, StateError
from service.http.auth_middleware import is_open
from service.http.auth_middleware import needed as scope_of
from service.settings import Settings
from tests.service.conftest import ITEMS, MakeBundle, running, upload, wait_until


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "keys.json")


@pytest.fixture
def guarded(settings: Settings, file: KeyFile) -> Iterator[httpx.Client]:
    """A service that needs keys; its client has one of scope admin."""
    token = file.add("root", "admin")[1]
    with running(settings, token) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_key_is_known_by_its_token_and_kept_as_a_hash(file: KeyFile) -> None:
    key, token = file.add("reader", "read", ["movies"])
    assert Keys(file, required=False).caller(f"bearer {token}").name == "reader"
    assert token.rpartition("_")[2] not in file.path.read_text("utf-8")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read() == [key]


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t[:-1], lambda t: t + "x", lambda t: t[:4], lambda t: t[3:]]
)
def test_another_token_is_not(file: KeyFile, change: Callable[[str], str]) -> None:
    token = file.add("reader", "read")[1]
    with pytest.raises(KeyInvalid):
        Keys(file, required=False).caller(f"Bearer {change(token)}")


@pytest.mark.parametrize("header", [None, "", "Basic eDp5", "Bearer", "Bearer "])
def test_no_token_learns_what_to_send(file: KeyFile, header: str | None) -> None:
    file.add("reader", "read")
    with pytest.raises(KeyInvalid, match="send Authorization: Bearer"):
        Keys(file, required=False).caller(header)


def test_without_keys_everyone_may_do_everything(file: KeyFile) -> None:
    anybody = Keys(file, required=False).caller(None)
    anybody.check("admin", "movies")
    assert anybody.covers("movies")
    assert anybody.covers("books")


def test_a_scope_includes_those_before_it_and_domains_limit_it(file: KeyFile) -> None:
    key = file.add("writer", "write", ["movies", "books"])[0]
    key.check("read", "movies")
    key.check("write", "books")
    with pytest.raises(ScopeDenied, match="needs a key of scope admin; 'writer' has scope write"):
        key.check("admin", "movies")
    with pytest.raises(ScopeDenied, match="'writer' is for movies, books, not for 'news'"):
        key.check("read", "news")


def test_keys_are_followed_while_the_service_runs(file: KeyFile) -> None:
    first, token = file.add("first", "read")
    known = Keys(file, required=False, look_every_s=0.0)
    second = file.add("second", "read")[1]
    assert known.caller(f"Bearer {second}").name == "second"
    file.revoke(first.id)
    with pytest.raises(KeyInvalid, match="revoked"):
        known.caller(f"Bearer {token}")


def test_when_the_last_key_is_revoked_nobody_gets_in(file: KeyFile) -> None:
    only, token = file.add("only", "admin")
    known = Keys(file, required=False, look_every_s=0.0)
    file.revoke(only.id)
    for header in (f"Bearer {token}", None):
        with pytest.raises(KeyInvalid):
            known.caller(header)
    file.path.unlink()
    with pytest.raises(KeyInvalid):
        known.caller(None)


def test_a_file_that_is_damaged_meanwhile_changes_nothing(
    file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    token = file.add("reader", "read")[1]
    known = Keys(file, required=False, look_every_s=0.0)
    file.path.write_text("[{", "utf-8")
    with caplog.at_level(logging.ERROR):
        assert known.caller(f"Bearer {token}").name == "reader"
    assert "go on being valid" in caplog.text


@pytest.mark.parametrize(
    "content", ["[{", "{}", '[{"id": "a"}]', '[{"id": "a", "name": "b", "scope": "root"}]']
)
def test_a_damaged_file_keeps_the_service_from_starting(
    settings: Settings, file: KeyFile, content: str
) -> None:
    file.path.write_text(content, "utf-8")
    with pytest.raises(StateError, match="restore it, or remove it"):
        open_keys(settings)


def test_keys_that_are_added_together_are_all_kept(file: KeyFile) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: file.add(f"key {n}", "read")[0].id, range(40)))
    assert sorted(key.id for key in file.read()) == sorted(made)


def test_a_key_that_is_not_there_cannot_be_revoked(file: KeyFile) -> None:
    key = file.add("reader", "read")[0]
    with pytest.raises(KeyNotFound, match=rf"there is {key.id} \(reader\)"):
        file.revoke("nothing")


def test_an_address_that_others_reach_needs_a_key_or_a_word(tmp_path: Path, file: KeyFile) -> None:
    public = Settings(data=tmp_path / "data", host="0.0.0.0")  # noqa: S104 - the point
    with pytest.raises(Exposed, match="swaprec keys add"):
        open_keys(public)
    assert not open_keys(public.model_copy(update={"insecure": True})).required
    assert not open_keys(public.model_copy(update={"host": "::1"})).required
    file.add("reader", "read")
    assert open_keys(public).required
    assert open_keys(public.model_copy(update={"insecure": True})).required


def test_a_file_of_another_place_is_used(tmp_path: Path, settings: Settings) -> None:
    elsewhere = tmp_path / "secrets" / "keys.json"
    KeyFile(elsewhere).add("reader", "read")
    assert not open_keys(settings).required
    assert open_keys(settings.model_copy(update={"keys": elsewhere})).required


def test_every_route_says_what_it_needs() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    needed = {
        (method.upper(), path): scope_of(method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if not is_open(path)
    }
    assert all(
        paths[path][method.lower()]["x-scope"] == scope for (method, path), scope in needed.items()
    )
    assert all("401" in paths[path][method.lower()]["responses"] for method, path in needed)
    assert {route for route, scope in needed.items() if scope == "admin"} == {
        ("PUT", "/domains/{domain}"),
        ("DELETE", "/domains/{domain}"),
    }
    assert {
        path for (method, path), scope in needed.items() if method == "POST" and scope == "read"
    } <= {
        "/recommend",
        "/compare",
        "/similar",
        "/embed",
        "/domains/{domain}/evaluate",
    }
    assert all(scope == "read" for (method, _), scope in needed.items() if method == "GET")


def test_nothing_but_probes_and_pages_answers_without_a_key(guarded: httpx.Client) -> None:
    for path in ("/livez", "/readyz", "/openapi.json", "/docs"):
        assert guarded.get(path, headers={"Authorization": ""}).status_code == 200
    for method, path in (
        ("GET", "/domains"),
        ("POST", "/recommend?domain=movies"),
        ("PUT", "/domains/movies"),
        ("GET", "/nowhere"),
    ):
        answer = guarded.request(method, path, headers={"Authorization": "Bearer sr_00_no"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert 'swaprec_rejected_total{reason="unauthorized"} 4.0' in guarded.get("/metrics").text


def test_a_body_is_not_read_before_the_key(guarded: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(50):
            yield b"x" * 1024
            time.sleep(0.01)

    started = time.monotonic()
    answer = guarded.post("/domains/movies/items", content=endless(), headers={"Authorization": ""})
    assert answer.status_code == 401
    assert time.monotonic() - started < 10


def test_a_key_of_one_domain_sees_and_touches_no_other(
    guarded: httpx.Client, file: KeyFile, bundle: MakeBundle
) -> None:
    for name in ("movies", "books"):
        guarded.put(f"/domains/{name}", json={})
        guarded.post(f"/domains/{name}/items", json=ITEMS)
    job = guarded.post("/adapters/books/versions/none/activate").json()["id"]
    token = file.add("films", "write", ["movies"])[1]
    headers = bearer(token)
    wait_until(lambda: guarded.get("/domains", headers=headers).status_code == 200)
    assert [one["domain"] for one in guarded.get("/domains", headers=headers).json()["items"]] == [
        "movies"
    ]
    assert {one["domain"] for one in guarded.get("/jobs", headers=headers).json()["items"]} <= {
        "movies"
    }
    guarded.headers.update(headers)
    assert guarded.post("/recommend?domain=movies", json={"history": ["i1"]}).status_code == 200
    refused = [
        guarded.post("/recommend?domain=books", json={"history": ["i1"]}),
        guarded.post("/recommend?domain=movies&domain=books", json={"history": ["i1"]}),
        guarded.get("/domains/books"),
        guarded.get("/adapters?domain=books"),
        guarded.get("/adapters/books/versions/1"),
        guarded.get(f"/jobs/{job}"),
        guarded.post("/domains/books/items", json=ITEMS),
        guarded.post("/domains/books/rollback"),
        guarded.get("/metrics"),
        guarded.get("/info"),
        guarded.delete("/domains/movies"),
        upload(guarded, bundle(1, "books")),
        upload(guarded, bundle(1, "news"), create="true"),
    ]
    assert [(one.status_code, one.json()["code"]) for one in refused] == [(403, "forbidden")] * len(
        refused
    )
    assert upload(guarded, bundle(1)).status_code == 201
    assert guarded.get("/adapters").json()["items"][0]["domain"] == "movies"


def test_a_key_does_not_learn_which_other_domains_exist(
    guarded: httpx.Client, file: KeyFile
) -> None:
    guarded.put("/domains/books", json={})
    headers = bearer(file.add("films", "read", ["movies"])[1])
    wait_until(lambda: guarded.get("/domains", headers=headers).status_code == 200)
    answer = guarded.get("/domains/movies", headers=headers)
    assert answer.status_code == 404
    assert "books" not in answer.text


def test_a_reader_changes_nothing_and_a_writer_makes_no_domain(
    guarded: httpx.Client, file: KeyFile, bundle: MakeBundle
) -> None:
    guarded.put("/domains/movies", json={})
    reader, writer = (bearer(file.add(scope, scope)[1]) for scope in ("read", "write"))
    wait_until(lambda: guarded.get("/info", headers=writer).status_code == 200)
    assert guarded.post("/domains/movies/items", json=ITEMS, headers=reader).status_code == 403
    assert guarded.post("/domains/movies/items", json=ITEMS, headers=writer).status_code == 200
    assert guarded.put("/domains/books", json={}, headers=writer).status_code == 403
    guarded.headers.update(writer)
    assert upload(guarded, bundle(1, "books"), create="true").status_code == 403
    assert upload(guarded, bundle(1), create="true").status_code == 201
