"""An upload's way: beside the event loop, and each check once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from adapters_store.bundle import check_bundle
from adapters_store.upload import Upload
from tests.service.conftest import MakeBundle, components_of, upload

STEPS = ("__init__", "write", "seal", "__exit__")


def on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_the_event_loop_neither_opens_nor_writes_nor_closes_the_file_of_an_upload(
    movies: httpx.Client, bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[tuple[str, bool]] = Counter()

    def noted(name: str) -> Callable[..., Any]:
        step = getattr(Upload, name)

        def run(*args: Any) -> Any:
            seen[name, on_event_loop()] += 1
            return step(*args)

        return run

    for name in STEPS:
        monkeypatch.setattr(Upload, name, noted(name))
    assert upload(movies, bundle(1)).status_code == 201
    assert upload(movies, bundle(2, "films")).status_code == 404
    assert {name for name, _ in seen} == set(STEPS)
    assert not [name for name, on_loop in seen if on_loop]
    incoming = components_of(movies).store.folder / ".incoming"
    assert list(incoming.iterdir()) == [], "what was refused leaves nothing behind"


def test_the_tensors_of_a_bundle_that_creates_its_domain_are_checked_once(
    client: httpx.Client, bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def count(given: Any, *args: Any) -> Any:
        checked.append(given.digest)
        return check_bundle(given, *args)

    monkeypatch.setattr("service.embedding.versions.check_bundle", count)
    answer = upload(client, bundle(1, "films"), create="true")
    assert answer.status_code == 201
    assert checked == [answer.json()["digest"]]
    assert client.get("/domains/films").json()["versions"] == [1]
