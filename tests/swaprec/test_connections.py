"""What the client repeats when a connection breaks, seen from a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from swaprec.client import Client, check_url
from swaprec.errors import Busy, ProblemError, Unreachable

BODY = b'{"items": []}'


def reply(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


@contextmanager
def answering(*replies: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Take one connection a reply; an empty reply hangs up.

    Yields the address and what was asked.
    """
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in replies:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(65536).split(b"\r\n")[0])
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_reading_is_repeated_when_the_connection_breaks() -> None:
    with answering(b"", reply(b"200 OK", BODY)) as (url, asked), Client(url) as client:
        assert client.domains() == []
        assert asked == [b"GET /domains HTTP/1.1"] * 2


def test_what_was_sent_and_may_have_changed_something_is_not_repeated() -> None:
    with answering(b"", reply(b"200 OK", BODY)) as (url, asked), Client(url) as client:
        with pytest.raises(Unreachable):
            client.rollback("walk")
        assert asked == [b"POST /domains/walk/rollback HTTP/1.1"]


def test_a_refused_connection_is_tried_again_since_nothing_was_sent() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        later = threading.Timer(0.05, listener.listen)
        later.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:

            def serve() -> None:
                later.join()
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply(b"200 OK", b'{"version": 3}'))

            thread = threading.Thread(target=serve)
            thread.start()
            assert dict(client.rollback("walk")) == {"version": 3}
            thread.join()


def test_a_refusal_is_not_repeated_and_need_not_be_json() -> None:
    with (
        answering(reply(b"502 Bad Gateway", b"proxy"), reply(b"200 OK", BODY)) as (url, asked),
        Client(url) as client,
    ):
        with pytest.raises(ProblemError) as caught:
            client.domains()
        assert (caught.value.status, caught.value.detail) == (502, "proxy")
        assert len(asked) == 1


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[1, 2]"])
def test_another_program_at_the_address_is_said_plainly(body: bytes) -> None:
    with (
        answering(reply(b"200 OK", body)) as (url, _),
        Client(url) as client,
        pytest.raises(Unreachable, match="something else"),
    ):
        client.info()


@pytest.mark.parametrize(
    "url", ["", "foo", "127.0.0.1:8000", "ftp://host", "http://", "http://[::1"]
)
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ValueError, match="expected for example http"):
        Client(url)


def test_an_address_may_end_with_a_slash() -> None:
    assert check_url("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"


def test_a_busy_service_is_asked_again_when_it_says_when() -> None:
    busy = (
        b"HTTP/1.1 429 Busy\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    )
    with answering(busy, busy, reply(b"200 OK", BODY)) as (url, asked), Client(url) as client:
        assert dict(client.recommend("walk", [])) == {"items": []}
        assert len(asked) == 3
    with answering(*[busy] * 4) as (url, asked), Client(url) as client:
        with pytest.raises(Busy):
            client.recommend("walk", [])
        assert len(asked) == 4
    with answering(busy) as (url, asked), Client(url) as client:
        with pytest.raises(Busy):
            client.rollback("walk")
        assert len(asked) == 1
