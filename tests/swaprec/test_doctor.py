"""The doctor asks the running service what it has."""

from __future__ import annotations

import json
from pathlib import Path

from service.access.keys import KeyFile
from service.settings import Settings
from swaprec.client import Client
from swaprec.doctor import examine
from tests.service.conftest import running
from tests.swaprec.conftest import World
from tests.swaprec.in_process import invoke


def test_the_doctor_says_what_the_running_service_has_and_not_only_what_is_here(
    url: str, client: Client, world: World, tmp_path: Path
) -> None:
    client.put_domain("walk")
    client.import_items("walk", [{"item_id": "a", "title": "film a"}])
    other_data = str(tmp_path / "elsewhere")
    done = invoke("doctor", "--json", SWAPREC_URL=url, SWAPREC_DATA=other_data)
    assert done.exit_code == 0, done.output
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert found["service"]["found"].startswith("swaprec ")
    assert found["service"]["found"].endswith("ready")
    assert "sqlite" in found["service state"]["found"]
    assert f"{world.backbone.name} (" in found["service backbones"]["found"]
    assert found["service domains"]["found"] == "1: walk@none (1 items)"
    # Nothing has to be here for a service that runs elsewhere.
    assert found["backbones here"] == {
        "state": "ok",
        "what": "backbones here",
        "found": "none: nothing can be recommended",
        "advice": "",
    }
    assert "port" not in found


def test_an_address_where_nobody_answers_is_bad_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    done = invoke("doctor", "--url", "http://127.0.0.1:9", "--json", SWAPREC_DATA=str(tmp_path))
    assert done.exit_code != 0
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert found["service"]["state"] == "bad"
    assert "SWAPREC_URL says where it is" in found["service"]["advice"]
    assert found["python"]["state"] == "ok"


def test_a_key_that_may_not_see_everything_is_named_as_the_reason(
    tmp_path: Path, world: World
) -> None:
    data = tmp_path / "guarded"
    keys = KeyFile(data / "keys.json")
    root = keys.add("root", "admin")[1]
    with running(Settings(data=data, backbones=(world.backbone,), port=0), root) as http:
        url = str(http.base_url)
        states = {one.what: one for one in examine(tmp_path, url, "")}
        assert states["service"].state == "warning"
        assert "SWAPREC_KEY names a key" in states["service"].advice
        assert {one.what: one.state for one in examine(tmp_path, url, root)}[
            "service backbones"
        ] == "ok"
