"""Requests that mean harm, of clients without a key:
each is refused, in little memory, while others are answered.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat

import httpx
import pytest

from tests.service.conftest import wait_until
from tests.service.process import serving
from tests.service.stranger import MIB, StrangerService, chunks, head, read, whole
from tests.service.test_crashes import free_port
from tests.tiny import tiny_backbone

CONNECTIONS = 40
HEAD_S = 1.0
BODY_S = 1.5
KEEP_S = 1
MAX_GROWTH = 96 * MIB
MAX_SILENCE_S = 3.0
SETTINGS = {
    "SWAPREC_MAX_BODY_BYTES": str(64 * 1024),
    "SWAPREC_MAX_IMPORT_BYTES": str(MIB),
    "SWAPREC_MAX_BUNDLE_BYTES": str(MIB),
    "SWAPREC_MAX_CONNECTIONS": str(CONNECTIONS),
    "SWAPREC_HEADER_TIMEOUT_S": str(HEAD_S),
    "SWAPREC_BODY_TIMEOUT_S": str(BODY_S),
    "SWAPREC_KEEP_ALIVE_S": str(KEEP_S),
}
RECOMMEND = "/recommend?domain=words"
SMALL = b'{"history": []}'
LARGE = b"x" * MIB
NOT_READ = 24
"""MiB that a client gets rid of at most:
what the sockets hold, and what is thrown away after the answer.
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrangerService]:
    data = tmp_path_factory.mktemp("hostile")
    port = free_port()
    tiny_backbone(data / "backbones" / "words")
    with serving(data, port, **SETTINGS) as running:
        httpx.put(f"http://127.0.0.1:{port}/domains/words").raise_for_status()
        yield StrangerService(port, running.pid, data)


@pytest.fixture
def service(process: StrangerService) -> Iterator[StrangerService]:
    with process.bounded(MAX_GROWTH, MAX_SILENCE_S, tolerated="too_many_connections"):
        yield process


LINE = b"POST /recommend?domain=words HTTP/1.1\r\nHost: x\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "a header's value": (chain([LINE + b"X: "], repeat(LARGE, 64)), 431, "headers_too_large"),
    "a header's name": (chain([LINE], repeat(LARGE, 64)), 431, "headers_too_large"),
    "headers": (chain([LINE], repeat(b"a: b\r\n" * 1000, 1000)), 431, "headers_too_large"),
    "the address": (chain([b"GET /"], repeat(LARGE, 64)), 414, "address_too_long"),
    "the query": (chain([b"GET /livez?"], repeat(LARGE, 64)), 414, "address_too_long"),
    "empty lines": (repeat(b"\r\n" * 100_000, 300), 431, "headers_too_large"),
    "the extension of a chunk": (
        chain([CHUNKED + b"1;"], repeat(LARGE, 64)),
        431,
        "headers_too_large",
    ),
    "a trailer": (chain([CHUNKED + b"0\r\nX: "], repeat(LARGE, 64)), 431, "headers_too_large"),
    "trailers": (
        chain([CHUNKED + b"0\r\n"], repeat(b"a: b\r\n" * 1000, 1000)),
        431,
        "headers_too_large",
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_refused_before_it_is_kept(service: StrangerService, what: str) -> None:
    parts, status, code = ENDLESS[what]
    answer = service.send(parts)
    assert (answer.status, answer.code, answer.closed) == (status, code, True)
    assert answer.sent < NOT_READ * MIB


@pytest.mark.parametrize(("size", "status"), [(30 * 1024, 200), (34 * 1024, 431)])
def test_headers_are_read_up_to_their_bound(
    service: StrangerService, size: int, status: int
) -> None:
    assert service.send([head("GET", "/livez", "X: " + "y" * size)]).status == status


@pytest.mark.parametrize(("count", "status"), [(90, 200), (101, 431)])
def test_so_many_headers_are_read(service: StrangerService, count: int, status: int) -> None:
    assert (
        service.send([head("GET", "/livez", *[f"x{n}: y" for n in range(count)])]).status == status
    )


def test_a_trailer_changes_nothing_of_a_request_that_was_admitted(service: StrangerService) -> None:
    body = b"%x\r\n%s\r\n0\r\nX-Request-Id: trailed\r\n\r\n" % (len(SMALL), SMALL)
    answer = service.send([CHUNKED + body])
    assert (answer.status, b"trailed" in answer.body) == (200, False)


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"HELO there\r\n\r\n",
        LINE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        LINE + b"Content-Length: -1\r\n\r\n",
        LINE + b"Content-Length: 99999999999999999999999\r\n\r\n",
        LINE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"ffffffffffffffffff\r\n",
        LINE + b"A\x00B: c\r\n\r\n",
        LINE + b" folded: header\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=lambda content: content.decode("latin-1")[-24:],
)
def test_what_is_no_request_is_a_problem_and_the_end(
    service: StrangerService, content: bytes
) -> None:
    answer = service.send([content])
    assert (answer.status, answer.code, answer.closed) == (400, "malformed_body", True)


def test_a_websocket_is_not_opened(service: StrangerService) -> None:
    lines = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: eA==",
        "Sec-WebSocket-Version: 13",
    ]
    assert service.send([head("GET", "/livez", *lines)]).status == 200


def slowly(content: bytes) -> Iterator[bytes]:
    return (content[place : place + 1] for place in range(len(content)))


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(service: StrangerService) -> None:
    began = time.monotonic()
    answer = service.send(slowly(LINE * 100), pause=0.1)
    assert (answer.status, answer.code, answer.closed) == (408, "request_timeout", True)
    assert time.monotonic() - began < HEAD_S + 10


@pytest.mark.parametrize("path", [RECOMMEND, "/domains/words/items", "/adapters"])
def test_a_body_that_comes_byte_by_byte_is_not_waited_for(
    service: StrangerService, path: str
) -> None:
    kind = "multipart/form-data; boundary=x" if path == "/adapters" else "application/json"
    begin = [head("POST", path, f"Content-Type: {kind}", "Content-Length: 10000")]
    answer = service.send(
        chain(begin, slowly(UPLOAD if path == "/adapters" else b" " * 10_000)), pause=0.1
    )
    assert (answer.status, answer.code, answer.closed) == (408, "request_timeout", True)


def test_a_body_that_goes_on_is_waited_for(service: StrangerService) -> None:
    body = SMALL.ljust(8000)
    begin = [head("POST", RECOMMEND, f"Content-Length: {len(body)}")]
    parts = (body[place : place + 1000] for place in range(0, len(body), 1000))
    began = time.monotonic()
    assert service.send(chain(begin, parts), pause=BODY_S / 4).status == 200
    assert time.monotonic() - began > BODY_S


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", head("GET", "/livez")], ids=["nothing", "a line", "a request"]
)
def test_a_connection_on_which_nothing_happens_is_closed(
    service: StrangerService, content: bytes
) -> None:
    with service.connect() as connection:
        connection.sendall(content)
        connection.settimeout(HEAD_S + KEEP_S + 15)
        answered = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answered.count(b"HTTP/1.1 ") == (1 if content.startswith(b"GET") else 0)


def send_on(connection: socket.socket, content: bytes) -> None:
    while True:
        connection.sendall(content)


def test_a_client_that_does_not_read_its_answer_is_cut_off(service: StrangerService) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.port))
        connection.settimeout(BODY_S + 15)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_on(connection, head("GET", "/openapi.json"))


def test_there_are_so_many_connections_and_no_more(service: StrangerService) -> None:
    with ExitStack() as opened:
        held = [opened.enter_context(service.connect()) for _ in range(CONNECTIONS)]
        answer = service.send([head("GET", "/livez")])
        assert (answer.status, answer.code) == (503, "too_many_connections")
        assert len(held) == CONNECTIONS
    wait_until(lambda: service.send([head("GET", "/livez", "Connection: close")]).status == 200)


def test_requests_that_wait_behind_another_are_few(service: StrangerService) -> None:
    with service.connect() as connection:
        connection.sendall(head("GET", "/livez") * 2000)
        content = b"".join(iter(partial(connection.recv, 65536), b""))
    assert content.count(b"HTTP/1.1 200 OK") == 17


FORM = "multipart/form-data; boundary=x"
ROUTES = [
    ("POST", "/recommend?domain={}", "application/json"),
    ("POST", "/compare?domain={}", "application/json"),
    ("POST", "/similar?domain={}", "application/json"),
    ("POST", "/embed?domain={}", "application/json"),
    ("POST", "/domains/{}/evaluate", "application/json"),
    ("PUT", "/domains/{}/probes", "application/json"),
    ("POST", "/domains/{}/items", "application/json"),
    ("POST", "/domains/{}/items", "application/x-ndjson"),
    ("PUT", "/domains/{}/items/one", "application/json"),
    ("PUT", "/domains/{}/items/one", FORM),
    ("PATCH", "/domains/{}/items/one", "application/json"),
    ("PATCH", "/adapters/{}/versions/1", "application/json"),
    ("POST", "/adapters/{}/versions/1/activate", "application/json"),
]
NEW = ("PUT", "/domains/words", "application/json")
UPLOAD = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"\x08" + bytes(7)
)


def sizes(length: int, *, says: bool) -> tuple[str, Iterator[bytes]]:
    """The header and the parts of a body of so many MiB that says how long it is, or does not."""
    if says:
        return f"Content-Length: {length * MIB}", repeat(LARGE, length)
    return "Transfer-Encoding: chunked", chunks(LARGE, length)


@pytest.mark.parametrize("says", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize(("method", "path", "kind"), [*ROUTES, NEW])
def test_a_body_over_the_limit_is_refused_and_not_read_on(
    service: StrangerService, method: str, path: str, kind: str, says: bool
) -> None:
    line, body = sizes(512, says=says)
    answer = service.send(
        chain([head(method, path.format("words"), f"Content-Type: {kind}", line)], body)
    )
    assert (answer.status, answer.code, answer.closed) == (413, "payload_too_large", True)
    assert answer.sent < (NOT_READ + 32) * MIB


@pytest.mark.parametrize("says", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize(("method", "path", "kind"), ROUTES)
def test_a_body_for_a_domain_that_does_not_exist_is_not_read(
    service: StrangerService, method: str, path: str, kind: str, says: bool
) -> None:
    line, body = sizes(512, says=says)
    answer = service.send(
        chain([head(method, path.format("nowhere"), f"Content-Type: {kind}", line)], body)
    )
    assert (answer.status, answer.code, answer.closed) == (404, "domain_not_found", True)
    assert answer.sent < NOT_READ * MIB


def test_a_bundle_over_the_limit_is_refused_before_it_is_read(service: StrangerService) -> None:
    line, body = sizes(512, says=True)
    answer = service.send(
        chain([head("POST", "/adapters", f"Content-Type: {FORM}", line), UPLOAD], body)
    )
    assert (answer.status, answer.code, answer.closed) == (413, "payload_too_large", True)
    assert answer.sent < NOT_READ * MIB


def test_who_goes_on_sending_is_cut_off(service: StrangerService) -> None:
    with service.connect() as connection:
        connection.sendall(head("POST", RECOMMEND, "Content-Length: 4000000000"))
        connection.settimeout(20)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_on(connection, LARGE)


def test_a_small_body_that_nobody_reads_does_not_cost_the_connection(
    service: StrangerService,
) -> None:
    refused = b"".join(whole("POST", "/recommend?domain=nowhere", SMALL))
    with service.connect() as connection:
        for _ in range(3):
            connection.sendall(refused)
            answer = read(connection)
            assert (answer.status, answer.closed) == (404, False)


def test_who_waits_to_be_asked_for_a_body_that_is_refused_sends_nothing(
    service: StrangerService,
) -> None:
    lines = ["Content-Type: application/json", f"Content-Length: {MIB}", "Expect: 100-continue"]
    answer = service.send([head("POST", RECOMMEND, *lines)])
    assert (answer.status, answer.closed) == (413, True)
