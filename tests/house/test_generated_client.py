from __future__ import annotations

from swaprec.client import AsyncClient, Client
from tools.generate_client import CLIENT, GENERATED, HEAD, generate


def test_the_blocking_client_is_the_asynchronous_one_without_async() -> None:
    there = {path.name: path.read_text("utf-8") for path in (CLIENT / GENERATED).glob("*.py")}
    assert there == generate(), "make fix writes it"
    assert all(content.startswith(HEAD) for content in there.values())


def test_both_clients_have_the_same_methods() -> None:
    assert {name for name in dir(Client) if name[0] != "_"} == {
        name for name in dir(AsyncClient) if name[0] != "_"
    }
