"""Arguments that the service would refuse are refused at once:
nothing listens where these clients would send.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.access.keys import KeyFile
from swaprec import AsyncClient, Client
from swaprec.client.arguments import entries
from swaprec.errors import Malformed, ProxyUnusable, Unreachable
from tests.swaprec.test_cli import swaprec

HALF = "\ud800"
"""Half a surrogate pair: Python holds it, no encoding of text does."""

ClientCall = Callable[[Any], Any]
CASES: list[tuple[ClientCall, str]] = [
    (
        lambda client: client.recommend("games", "123"),
        'history is "123": expected a list, for example \\["123"\\]',
    ),
    (
        lambda client: client.recommend("games", [1, 95]),
        'history\\[0\\] is 1, a number: ids are text, send "1"',
    ),
    (
        lambda client: client.recommend("games", ["1", {"item_id": 95}]),
        'history\\[1\\].item_id is 95.*send "95"',
    ),
    (lambda client: client.recommend("games", {"a", "b"}), "history is a set: expected a list"),
    (lambda client: client.recommend("games", None), "history is null: expected a list"),
    (lambda client: client.recommend("games", ["a\n"]), "U\\+000A"),
    (lambda client: client.recommend("games", [], user_id=7), 'user_id is 7.*send "7"'),
    (
        lambda client: client.recommend("games", [], exclude={"item_ids": [7]}),
        "exclude.item_ids\\[0\\] is 7",
    ),
    (
        lambda client: client.recommend("games", [], exclude={"item_ids": "12"}),
        'exclude.item_ids is "12"',
    ),
    (lambda client: client.compare("games", "12"), 'history is "12"'),
    (lambda client: client.compare("games", ["12"], {"version": 3}), "arms is"),
    (lambda client: client.compare("games", ["12"], include="metadata"), 'include is "metadata"'),
    (lambda client: client.similar("games", 12), 'query is 12, a number: ids are text, send "12"'),
    (lambda client: client.similar("games", ["12"]), "query"),
    (lambda client: client.embed("games", "12"), 'items is "12"'),
    (lambda client: client.embed("games", [12]), "items\\[0\\] is 12"),
    (lambda client: client.item("games", 12), "item_id is 12"),
    (lambda client: client.put_item("games", 12, {}), "item_id is 12"),
    (lambda client: client.patch_item("games", "i3\n", {}), "U\\+000A"),
    (lambda client: client.delete_item("games", 12), "12 is no name"),
    (
        lambda client: client.put_probes("games", [{"history": "12", "target": "3"}]),
        "probes\\[0\\].history",
    ),
    (
        lambda client: client.put_probes("games", [{"history": ["12"], "target": 3}]),
        "probes\\[0\\].target is 3",
    ),
    (lambda client: client.domain(5), "5 is no name"),
    (lambda client: client.delete_item("games", HALF), '"\\\\ud800" has U\\+D800 at 0'),
    (lambda client: client.domain(HALF), "U\\+D800"),
    (lambda client: client.recommend(HALF, ["1"]), 'domain: "\\\\ud800" has U\\+D800 at 0'),
    (
        lambda client: client.recommend("games", [{"text": f"ab{HALF}"}]),
        "history\\[0\\].text: .* has U\\+D800 at 2",
    ),
    (lambda client: client.put_domain("games", HALF), "title: .* U\\+D800"),
    (lambda client: client.compare("games", ["1"], include=[HALF]), "include\\[0\\]: .* U\\+D800"),
    (lambda client: client.version("games", HALF), "U\\+D800"),
    (lambda client: client.activate("games", 1, gate={HALF: 1}), "a name in gate: .* U\\+D800"),
    (lambda client: client.versions(HALF), "domain: .* U\\+D800"),
    (lambda client: client.job(HALF), "U\\+D800"),
    (lambda client: client.import_items(HALF, [{"item_id": "1"}]), "U\\+D800"),
    (lambda client: client.download(HALF, 1, Path("x")), "U\\+D800"),
]


@pytest.fixture
def nowhere() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound but not listening
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("ask", "says"), CASES, ids=[f"{place} {says[:30]}" for place, (_, says) in enumerate(CASES)]
)
def test_what_is_no_id_or_no_list_is_refused_before_anything_is_sent(
    nowhere: str, ask: ClientCall, says: str
) -> None:
    with Client(nowhere) as client, pytest.raises(Malformed, match=says) as caught:
        ask(client)
    assert isinstance(caught.value, ValueError)
    assert caught.value.status == 422

    async def awaited() -> None:
        async with AsyncClient(nowhere) as client:
            await ask(client)

    with pytest.raises(Malformed, match=says):
        asyncio.run(awaited())


def test_times_of_a_history_may_be_dates() -> None:
    at = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
    given = [{"item_id": "1", "timestamp": at}, {"text": "x", "timestamp": at.date()}]
    assert entries(given, "history") == [
        {"item_id": "1", "timestamp": "2024-05-01T12:30:00+00:00"},
        {"text": "x", "timestamp": "2024-05-01"},
    ]


def test_a_key_or_an_address_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(ValueError, match="the key has characters that no key has"):
        Client("http://127.0.0.1:9", "é")
    with pytest.raises(ValueError, match="is not the address of a service"):
        Client(f"http://127.0.0.1:9/{HALF}")


def test_the_client_says_of_an_id_what_the_service_says(client: Client) -> None:
    client.put_domain("games")
    details = []
    histories: list[Any] = [[1], ["a\nb"], ["é" * 129]]
    for history in histories:
        with pytest.raises(Malformed) as ours:
            client.recommend("games", history)
        answer = client._http.post("/recommend?domain=games", json={"history": history}).json()
        assert ours.value.detail == answer["detail"]
        details.append(answer["detail"])
    assert len(set(details)) == 3


def test_an_empty_address_or_key_of_the_environment_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWAPREC_URL", "")
    monkeypatch.setenv("SWAPREC_KEY", "")
    with Client() as client:
        assert client.url == "http://127.0.0.1:8000"
        assert "authorization" not in client._http.headers


@pytest.mark.parametrize(
    "proxy", ["socks5://10.0.0.9:1080", "socks5h://user:secret@10.0.0.9:1080", "gopher://10.0.0.9"]
)
def test_a_proxy_that_cannot_be_used_is_said_plainly_and_never_stands_before_this_machine(
    monkeypatch: pytest.MonkeyPatch, nowhere: str, proxy: str
) -> None:
    for name in ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    for url in (
        nowhere,
        "http://localhost:1",
        "http://127.8.8.8:1",
        "http://[::1]:1",
        "http://api.localhost:1",
    ):
        with Client(url) as client:
            assert client._http.trust_env is False
    with pytest.raises(ProxyUnusable, match="unset ALL_PROXY") as caught:
        Client("http://recs.example")
    assert isinstance(caught.value, Unreachable)
    assert "secret" not in str(caught.value)
    with pytest.raises(ProxyUnusable):
        AsyncClient("http://recs.example")
    monkeypatch.setenv("NO_PROXY", "recs.example")
    Client("http://recs.example").close()


def test_the_command_line_says_a_proxy_a_setting_and_its_version(tmp_path: Path) -> None:
    shown = swaprec(
        "domains",
        "list",
        "--url",
        "http://recs.example",
        ALL_PROXY="socks5://10.0.0.9:1080",
        NO_PROXY="",
    )
    assert shown.returncode == 2
    assert "pip install 'httpx[socks]'" in shown.stderr
    assert "Traceback" not in shown.stderr
    linked = swaprec("serve", SWAPREC_PORT="tcp://10.0.0.1:8000", SWAPREC_DATA=str(tmp_path))
    assert (linked.returncode, 'SWAPREC_PORT is "tcp://10.0.0.1:8000"' in linked.stderr) == (
        2,
        True,
    ), linked.stderr
    assert "enableServiceLinks" in linked.stderr
    listed = swaprec("keys", "list", SWAPREC_PORT="many", SWAPREC_DATA=str(tmp_path))
    assert (listed.returncode, 'SWAPREC_PORT is "many"' in listed.stderr) == (2, True), (
        listed.stderr
    )
    assert swaprec("--version").stdout.startswith("swaprec 0.")


def test_a_key_is_not_named_or_limited_to_what_is_no_name(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    for name, domains in (("a\nb", []), ("", []), ("shop", ["Shop\n"]), ("x" * 257, [])):
        with pytest.raises(ValueError, match=r"control characters|expected|at most"):
            file.add(name, "read", domains)
    assert file.read() == []
