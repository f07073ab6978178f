from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import httpx
import pytest

from service.server import PortTaken, address, listen
from service.settings import InvalidSettings, Settings, unknown_variables, variable
from tests.service.conftest import running, upload
from tests.service.raw import ask
from transrec.backbone import Backbone

WRONG = {
    "port": "tcp://10.0.0.1:8000",
    "workers": "many",
    "threads": "0",
    "insecure": "maybe",
    "device": "gpu",
    "slots": "1.5",
    "log_level": "loud",
    "root_path": "recs",
    "memory_bytes": "1GiB",
    "max_queue": "-1",
}

ROOT = Path(__file__).parents[2]


def test_every_wrong_setting_is_named_with_its_variable_its_value_and_what_is_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in WRONG.items():
        monkeypatch.setenv(variable(name), value)
    with pytest.raises(InvalidSettings) as caught:
        Settings()
    problems = str(caught.value).split("; ")
    for name, value in WRONG.items():
        assert [
            one
            for one in problems
            if variable(name) in one and f'"{value}"' in one and "expected" in one
        ], name
    assert "enableServiceLinks: false" in str(caught.value)


def test_an_empty_variable_is_an_unset_one_for_every_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(variable(name), "")
    assert Settings() == Settings.model_construct()


def test_an_unknown_variable_is_named_with_the_nearest_setting_and_service_links_are_ignored() -> (
    None
):
    links = {
        "SWAPREC_SERVICE_HOST": "10.0.0.1",
        "SWAPREC_SERVICE_PORT_HTTP": "8000",
        "SWAPREC_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "SWAPREC_PORT_8000_TCP_ADDR": "10.0.0.1",
        "SWAPREC_REDIS_PORT": "tcp://10.0.0.2:6379",
        "SWAPREC_REDIS_SERVICE_HOST": "10.0.0.2",
    }
    others = {
        "SWAPREC_URL": "http://a",
        "SWAPREC_KEY": "k",
        "SWAPREC_PORT": "1",
        "SWAPREC_EMPTY": "",
        "PATH": "/bin",
    }
    assert unknown_variables(links | others) == []
    [prot, queue] = unknown_variables({"SWAPREC_PROT": "9000", "SWAPREC_MAXQUEUE": "3"})[::-1]
    assert "did you mean SWAPREC_PORT?" in prot
    assert "did you mean SWAPREC_MAX_QUEUE?" in queue


def test_the_containers_set_no_variable_that_the_service_warns_of() -> None:
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *(ROOT / "deploy").iterdir()]
    texts = [path.read_text("utf-8") for path in files if path.is_file()]
    names = set(re.findall(r"\bSWAPREC_[A-Z_]+", "\n".join(texts)))
    assert {"SWAPREC_SEED", "SWAPREC_INSECURE"} <= names
    assert unknown_variables(dict.fromkeys(names, "1")) == []


def test_an_ipv6_address_is_listened_on_and_written_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        listener = listen(Settings(host="[::1]", port=0))
    except PortTaken:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        assert address(listener) == f"http://[::1]:{listener.getsockname()[1]}"
    with listen(Settings(port=0)) as other:
        assert address(other).startswith("http://127.0.0.1:")


def test_a_host_that_does_not_exist_is_the_hosts_fault() -> None:
    with pytest.raises(PortTaken, match="SWAPREC_HOST"):
        listen(Settings(host="nowhere.invalid", port=0))


def test_locations_are_right_behind_a_proxy_that_strips_a_prefix_and_one_that_does_not(
    tmp_path: Path, backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    assert backbone.fingerprint
    caplog.set_level(logging.ERROR)
    forged = {
        "Host": "inside:8000",
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_Prefix": "/evil",
    }
    with running(Settings(data=tmp_path / "data", port=0, root_path="/recs/")) as client:
        assert client.put("/domains/movies", json={}).status_code == 201
        for prefix in ("", "/recs"):
            name = f"{prefix}/domains/movies/items/a%2Fb"
            put = ask(client, "PUT", name, b'{"title": "x"}', **forged)
            assert put.headers["location"] == "/recs/domains/movies/items/a%2Fb"
            queued = ask(client, "PUT", f"{name}?wait=false", b'{"title": "y"}', **forged)
            assert queued.headers["location"].startswith("/recs/jobs/")
            assert ask(client, "GET", queued.headers["location"]).status == 200
            assert ask(client, "DELETE", f"{prefix}/domains/movies/items/a%0Ab").status == 422
            assert ask(client, "GET", f"{prefix}/livez").status == 200
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/recs"}]
    assert caplog.records == []


def test_locations_are_paths_without_a_proxy(movies: httpx.Client, tmp_path: Path) -> None:
    answer = movies.put("/domains/movies/items/..%2F..", json={"title": "x"})
    assert answer.headers["location"] == "/domains/movies/items/..%2F.."
    assert upload(movies, Path(__file__)).status_code == 415
    assert not list(tmp_path.glob("*.part"))
