from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.app import create_app
from service.settings import Settings
from swaprec import Client, ProblemError, Unreachable
from tests.swaprec.conftest import World

ITEMS = [{"item_id": f"i{n}", "title": f"film {n}"} for n in range(40)]


def test_a_domain_is_made_filled_asked_and_removed(client: Client) -> None:
    client.put_domain("walk", title="Walk")
    assert client.import_items("walk", ITEMS)["accepted"] == 40
    assert [item["item_id"] for item in client.items("walk", limit=7)] == [item["item_id"] for item in ITEMS]
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
    card = client.push(world.run / "bundle.safetensors", activate=True, on_job=lambda job: steps.append(job["status"]))
    assert steps[-1] == "succeeded"
    assert client.recommend("walk", ["i1"])["version"] == card["version"] == 1
    assert client.version("walk", 1)["live"]
    assert client.activate("walk", "none")["result"]["version"] == "none"
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


def test_every_route_but_the_probes_has_a_method_of_the_client() -> None:
    paths = {re.sub(r"\{[^}]+\}", "{}", path) for path in create_app(Settings()).openapi()["paths"]}
    source = Path(Client.recommend.__code__.co_filename).read_text("utf-8")
    asked = {re.sub(r"\{[^}]+\}", "{}", path) for path in re.findall(r'f?"(/[a-z{}_\[\]\'./]*)"', source)}
    assert paths - asked == {"/livez", "/metrics", "/adapters/{}/versions/{}/file"}
