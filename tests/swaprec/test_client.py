from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.access.keys import KeyFile
from service.app import create_app
from service.settings import Settings
from swaprec import AsyncClient, Client, ProblemError, Unreachable
from swaprec.client import calls
from swaprec.errors import (
    Busy,
    Conflict,
    Forbidden,
    Malformed,
    NoRoom,
    NotFound,
    ServerError,
    TooLarge,
    Unauthorized,
    problem_error,
)
from tests.service.conftest import running
from tests.swaprec.conftest import World

ITEMS = [{"item_id": f"i{n}", "title": f"film {n}"} for n in range(40)]


def test_a_domain_is_made_filled_asked_and_removed(client: Client) -> None:
    client.put_domain("walk", title="Walk")
    assert client.import_items("walk", ITEMS)["accepted"] == 40
    assert [item["item_id"] for item in client.items("walk", limit=7)] == [
        item["item_id"] for item in ITEMS
    ]
    assert client.item("walk", "i3")["text"] == "film 3"
    answer = client.recommend("walk", ["i1", "i2"], k=3, include=["metadata"])
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3]
    assert [domain["domain"] for domain in client.domains()] == ["walk"]
    client.delete_domain("walk")
    assert client.domains() == []


def test_a_bundle_is_pushed_activated_rolled_back_and_deleted(client: Client, world: World) -> None:
    client.put_domain("walk")
    client.import_items("walk", ITEMS)
    steps: list[str] = []
    card = client.push(
        world.run / "bundle.safetensors",
        activate=True,
        on_job=lambda job: steps.append(job["status"]),
    )
    assert steps[-1] == "succeeded"
    assert client.recommend("walk", ["i1"])["version"] == card["version"] == 1
    assert client.version("walk", 1)["live"]
    result = client.activate("walk", "none")["result"]
    assert result is not None
    assert result["version"] == "none"
    assert client.rollback("walk")["version"] == 1
    assert {job["kind"] for job in client.jobs("walk")} == {"activate", "import"}
    assert client.info()["domains"][0]["version"] == 1
    with pytest.raises(ProblemError, match="version_in_use"):
        client.delete_version("walk", 1)
    assert [one["version"] for one in client.versions("walk")] == [1]


def test_a_refusal_is_a_typed_error_with_every_problem(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as caught:
        client.recommend("walk", ["i1"])
    assert (caught.value.status, caught.value.code) == (404, "domain_not_found")
    assert caught.value.request_id
    client.put_domain("walk")
    with pytest.raises(ProblemError) as caught:
        client.recommend("walk", ["i1"], k=0, hystory=[])
    assert len(caught.value.errors) == 2
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04zip")
    with pytest.raises(ProblemError, match="unsupported_format"):
        client.push(tmp_path / "x.pt")


def test_a_failed_activation_is_an_error(client: Client, world: World, tmp_path: Path) -> None:
    client.push(world.run / "bundle.safetensors", create=True)
    stored = next((tmp_path / "data" / "adapters" / "walk" / "1").glob("*.safetensors"))
    stored.write_bytes(stored.read_bytes()[:-8])
    with pytest.raises(ProblemError, match="the file ends after"):
        client.activate("walk", 1)


def test_nobody_there_is_said_plainly() -> None:
    with Client("http://127.0.0.1:9", timeout=2) as client:
        assert not client.ready()
        with pytest.raises(Unreachable, match=r"no swaprec answers at http://127\.0\.0\.1:9"):
            client.domains()


def test_a_comparison_has_a_column_an_arm(client: Client, world: World) -> None:
    client.put_domain("walk")
    client.import_items("walk", ITEMS)
    client.push(world.run / "bundle.safetensors", activate=True)
    near = client.similar("walk", "i1", k=3)
    assert near["items"][0]["item_id"] != "i1"
    assert (
        client.embed("walk", ["i1", {"text": "film"}])["vectors"][0]
        == client.embed("walk", ["i1"])["vectors"][0]
    )
    assert not client.recommend("walk", ["i1", {"text": "film the 3"}], k=3)["fallback"]["used"]
    compared = client.compare("walk", ["i1"], [{"version": 1}, {"version": "none"}], k=3)
    assert [arm["version"] for arm in compared["arms"]] == [1, "none"]
    assert compared["arms"][0]["items"] == client.recommend("walk", ["i1"], k=3)["items"]


def test_ids_may_hold_whatever_an_address_does_not(client: Client) -> None:
    client.put_domain("walk")
    strange = ["a/b", "50%", "50%25", "a b?c#d", "å", "..", "x;y"]
    client.import_items("walk", [{"item_id": item_id, "title": "film"} for item_id in strange])
    assert [client.item("walk", item_id)["item_id"] for item_id in strange] == strange


def test_a_bundle_comes_back_as_it_went(client: Client, world: World, tmp_path: Path) -> None:
    bundle = world.run / "bundle.safetensors"
    card = client.push(bundle, create=True)
    fetched = client.download("walk", card["version"], tmp_path / "back.safetensors")
    assert fetched.read_bytes() == bundle.read_bytes()
    with pytest.raises(NotFound):
        client.download("walk", 9, tmp_path / "none.safetensors")
    stored = next((tmp_path / "data" / "adapters" / "walk" / "1").glob("*.safetensors"))
    stored.write_bytes(stored.read_bytes()[:-8])
    with pytest.raises(OSError, match="not what the card names"):
        client.download("walk", 1, fetched)
    assert fetched.read_bytes() == bundle.read_bytes()
    assert [path.name for path in tmp_path.glob(".*.part")] == []


def test_what_runs_is_reported(client: Client) -> None:
    client.put_domain("walk")
    assert client.alive()
    assert client.ready()
    assert "swaprec_requests_total" in client.metrics()
    job = client.activate("walk", "none")
    assert client.job(job["id"]) == job == client.jobs("walk", limit=1)[0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Malformed),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (415, Malformed),
        (418, ProblemError),
        (422, Malformed),
        (429, Busy),
        (500, ServerError),
        (502, ServerError),
        (503, Busy),
        (507, NoRoom),
    ],
)
def test_each_status_has_its_type(status: int, kind: type[ProblemError]) -> None:
    assert type(problem_error({"status": status})) is kind


def test_a_key_is_sent_from_the_argument_or_the_environment(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data=tmp_path / "keyed", backbones=(world.backbone,), port=0)
    token = KeyFile(tmp_path / "keyed" / "keys.json").add("root", "admin")[1]
    with running(settings, token) as http:
        url = str(http.base_url)
        with Client(url) as client, pytest.raises(Unauthorized, match="needs a key"):
            client.domains()
        with Client(url, key=token) as client:
            assert client.domains() == []
        monkeypatch.setenv("SWAPREC_URL", url)
        monkeypatch.setenv("SWAPREC_KEY", token)
        with Client() as client:
            assert client.put_domain("walk")["domain"] == "walk"


def test_the_same_from_asyncio(url: str, world: World, tmp_path: Path) -> None:
    async def rows() -> AsyncIterator[dict[str, str]]:
        for item in ITEMS:
            yield item

    async def story() -> None:
        steps: list[str] = []
        async with AsyncClient(url) as client:
            assert await client.alive()
            assert await client.ready()
            await client.put_domain("walk", title="Walk")
            assert (await client.import_items("walk", ITEMS[:20]))["accepted"] == 20
            assert (await client.import_items("walk", rows()))["accepted"] == 20
            assert [item["item_id"] async for item in client.items("walk", limit=7)] == [
                i["item_id"] for i in ITEMS
            ]
            assert (await client.item("walk", "i3"))["text"] == "film 3"
            bundle = world.run / "bundle.safetensors"
            card = await client.push(
                bundle, activate=True, on_job=lambda job: steps.append(job["status"])
            )
            assert (card["version"], steps[-1]) == (1, "succeeded")
            several = await asyncio.gather(
                *(client.recommend("walk", [f"i{n}"], k=3) for n in range(16))
            )
            assert {answer["version"] for answer in several} == {1}
            assert len((await client.compare("walk", ["i1"]))["arms"]) == 3
            assert len((await client.similar("walk", {"text": "film"}, k=4))["items"]) == 4
            assert len((await client.embed("walk", ["i1"]))["vectors"][0]) == 16
            assert (await client.version("walk", 1))["live"]
            assert [one["version"] for one in await client.versions("walk")] == [1]
            assert (
                await client.download("walk", 1, tmp_path / "b")
            ).read_bytes() == bundle.read_bytes()
            assert (await client.activate("walk", "none"))["status"] == "succeeded"
            assert (await client.rollback("walk"))["version"] == 1
            assert (await client.job((await client.jobs())[0]["id"]))["status"] == "succeeded"
            with pytest.raises(Conflict):
                await client.delete_version("walk", 1)
            assert (await client.domain("walk"))["live_version"] == 1
            assert "swaprec_requests_total" in await client.metrics()
            assert [one["domain"] for one in (await client.info())["domains"]] == ["walk"]
            await client.delete_domain("walk")
            assert await client.domains() == []
        async with AsyncClient("http://127.0.0.1:9", timeout=2) as nobody:
            assert not await nobody.ready()
            with pytest.raises(Unreachable):
                await nobody.domains()

    asyncio.run(story())


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        public = {
            name: value for name, value in vars(kind).items() if name[0] != "_" and callable(value)
        }
        return {name: list(inspect.signature(value).parameters) for name, value in public.items()}

    assert methods(Client) == methods(AsyncClient)


def test_every_route_has_a_method_of_the_client() -> None:
    asked: set[tuple[str, str]] = set()
    everything = {
        "domain": "x",
        "name": "x",
        "number": 1,
        "version": 1,
        "item_id": "x",
        "job_id": "x",
        "query": "x",
        "wishes": {},
        "item": {},
        "changes": {},
    }
    for make in vars(calls).values():
        if (
            inspect.isfunction(make)
            and make.__module__ == calls.__name__
            and "Call[" in str(make.__annotations__)
        ):
            given = {name: everything.get(name, ()) for name in inspect.signature(make).parameters}
            call = make(**given)
            asked.add((call.method, call.path))
    asked |= {
        ("GET", calls.file_path("x", 1)),
        ("GET", "/jobs/x/events"),
        ("GET", "/metrics"),
        ("GET", "/livez"),
    }
    paths = create_app(Settings()).openapi()["paths"]
    filled = {
        (method.upper(), re.sub(r"\{version\}", "1", re.sub(r"\{(?!version)[^}]+\}", "x", path)))
        for path, methods in paths.items()
        for method in methods
    }
    assert filled == asked
