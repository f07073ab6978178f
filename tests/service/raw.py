"""Requests as bytes: paths and bodies that no client library would send."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Answer:
    """Status, body and headers, whose names are in lower case."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def kind(self) -> str:
        """The content type, without its options."""
        return self.headers.get("content-type", "").partition(";")[0]


def ask(
    client: httpx.Client,
    method: str,
    path: str,
    body: bytes = b"",
    kind: str = "application/json",
    token: str = "",
    **headers: str,
) -> Answer:
    """Send a request whose path is not touched to the service behind a client."""
    connection = http.client.HTTPConnection("127.0.0.1", client.base_url.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        sent = {"Content-Length": str(len(body)), "Content-Type": kind} if body else {}
        sent |= {"Authorization": f"Bearer {token}"} if token else {}
        for name, value in (
            sent | {name.replace("_", "-"): value for name, value in headers.items()}
        ).items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return Answer(
            answer.status,
            answer.read(),
            {name.lower(): value for name, value in answer.getheaders()},
        )
    finally:
        connection.close()
