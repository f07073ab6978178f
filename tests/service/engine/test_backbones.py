"""A service that begins with nothing, and backbones that are put beside it while it runs."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from service.engine.backbones import Backbones
from service.settings import Settings
from tests.service.conftest import running, wait_until
from tests.tiny import tiny_backbone
from transrec.errors import BackboneError


def test_without_any_backbone_the_service_is_ready_and_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "swaprec"),
        running(Settings(data=tmp_path, port=0)) as client,
    ):
        assert client.get("/livez").json() == {"status": "ok"}
        assert client.get("/readyz").json()["status"] == "ready"
        info = client.get("/info").json()
        assert (info["backbones"], info["domains"]) == ([], [])
        answer = client.put("/domains/movies", json={})
        assert (answer.status_code, answer.json()["code"]) == (422, "backbone_not_found")
        assert "put its folder" in answer.json()["detail"]
    assert f"no backbone: put a folder into {tmp_path / 'backbones'}" in caplog.text


def test_a_backbone_that_is_put_beside_the_others_is_found_when_a_domain_asks_for_it(
    tmp_path: Path,
) -> None:
    with running(Settings(data=tmp_path, port=0)) as client:
        first = tiny_backbone(tmp_path / "backbones" / "first").fingerprint
        assert client.put("/domains/movies", json={}).status_code == 201
        second = tiny_backbone(tmp_path / "backbones" / "second", seed=1).fingerprint
        assert client.put("/domains/news", json={"backbone": "second"}).status_code == 201
        assert [one["fingerprint"] for one in client.get("/info").json()["backbones"]] == [
            first,
            second,
        ]
        assert client.put("/domains/tools", json={}).status_code == 422, (
            "two fit: which one must be said"
        )
        client.post("/domains/news/items", json=[{"item_id": "a", "title": "A storm over Oslo"}])
        wait_until(lambda: answered(client, "news"))


def answered(client: httpx.Client, domain: str) -> bool:
    return bool(
        client.post(f"/recommend?domain={domain}", json={"history": [], "k": 1}).json()["items"]
    )


def test_what_is_no_backbone_is_reported_and_keeps_no_other_from_being_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbones = Backbones(Settings(data=tmp_path))
    shelf = tmp_path / "backbones"
    assert not backbones.look_again()
    (shelf / "a-mistake").mkdir(parents=True)
    (shelf / ".half.part").mkdir()
    fingerprint = tiny_backbone(shelf / "whole").fingerprint
    with caplog.at_level(logging.WARNING, "swaprec"):
        assert backbones.look_again()
    assert list(backbones) == [fingerprint]
    assert "a-mistake" in caplog.text
    assert "half" not in caplog.text
    assert not backbones.look_again()


def test_what_is_no_backbone_keeps_a_service_from_starting(tmp_path: Path) -> None:
    (tmp_path / "backbones" / "a-mistake").mkdir(parents=True)
    with pytest.raises(BackboneError):
        Backbones(Settings(data=tmp_path))


def test_the_same_backbone_in_two_folders_is_loaded_as_one_and_the_log_says_which(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        tiny_backbone(tmp_path / "backbones" / name)
    with caplog.at_level(logging.INFO, "swaprec"):
        backbones = Backbones(Settings(data=tmp_path))
    shelf = tmp_path / "backbones"
    shown = next(iter(backbones))[:12]
    assert caplog.messages == [
        f"backbone one ({shown}) loaded from {shelf / 'one'}",
        (
            f"{shelf / 'two'} holds the same backbone as {shelf / 'one'} ({shown}): the first one"
            " is used"
        ),
    ]
    assert len(backbones) == 1
    assert next(iter(backbones.values())).backbone.name == "one"
