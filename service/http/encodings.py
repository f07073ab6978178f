"""Bodies with a Content-Encoding:
gzip is decoded as it comes, within bounds; anything else is refused.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters_store.quoting import quote
from service.errors import MalformedBody, PayloadTooLarge, UnsupportedMedia
from service.http.request_middleware import header

CHUNK_BYTES = 64 * 1024
MAX_RATIO = 100
"""How many bytes one byte may become; JSON of real catalogs compresses five to fifteen times."""

FREE_BYTES = 1024 * 1024
"""What a body may become whatever its ratio."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_ACCEPTED = {"Accept-Encoding": "gzip, identity"}


class ContentEncoding:
    """Decodes the bodies of requests; the routes' limits then count what was decoded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        with_body = scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH")
        given = header(scope, b"content-encoding") if with_body else None
        named = "identity" if given is None else given.strip().lower()
        if named in ("gzip", "x-gzip"):
            receive = _Gzip(receive).receive
        elif named not in ("", "identity"):
            receive = partial(_refuse, quote(given))
        await self._app(scope, receive, send)


async def _refuse(encoding: str) -> Message:
    """Refuse a body where it is read: what reads none is answered all the same."""
    raise UnsupportedMedia(
        f"content encoding {encoding}: expected gzip, or none", headers=_ACCEPTED
    )


class _Gzip:
    """Messages of a body, decoded, in chunks of bounded size."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._decoder = zlib.decompressobj(_GZIP_WINDOW)
        self._ahead: deque[bytes] = deque()
        self._bytes_in = 0
        self._bytes_out = 0
        self._all_came = False
        self._end_sent = False

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            MalformedBody: no gzip, or not all of it; PayloadTooLarge: it becomes far larger than it
                is.
        """
        while self._ahead or not self._all_came:
            if not self._ahead:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._take(message)
            elif chunk := self._next_chunk():
                await asyncio.sleep(0)  # other requests have their turn between two chunks
                return {"type": "http.request", "body": chunk, "more_body": True}
        return await self._end()

    def _take(self, message: Message) -> None:
        self._all_came = not message.get("more_body", False)
        if body := message.get("body", b""):
            self._bytes_in += len(body)
            self._ahead.append(body)

    def _next_chunk(self) -> bytes:
        """Decode until a chunk is full or nothing is ahead:
        many small members are no more work for who reads.
        """
        chunk = bytearray()
        while self._ahead and len(chunk) < CHUNK_BYTES:
            chunk += self._decode(self._ahead.popleft())
        return bytes(chunk)

    def _decode(self, data: bytes) -> bytes:
        """Decode some data; what is left of it comes next."""
        if self._decoder.eof and data:  # another member, as `cat a.gz b.gz` writes them
            self._decoder = zlib.decompressobj(_GZIP_WINDOW)
        try:
            chunk = self._decoder.decompress(data, CHUNK_BYTES)
        except zlib.error as error:
            raise MalformedBody(
                f"the body is no gzip, though its Content-Encoding says so: {error}"
            ) from error
        left = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
        if left or len(chunk) == CHUNK_BYTES:
            self._ahead.appendleft(left)
        self._bytes_out += len(chunk)
        if self._bytes_out > FREE_BYTES + MAX_RATIO * self._bytes_in:
            raise PayloadTooLarge(
                f"the gzip body becomes more than {MAX_RATIO} times as large: send it without"
                " Content-Encoding"
            )
        return chunk

    async def _end(self) -> Message:
        if self._bytes_in and not self._decoder.eof:
            raise MalformedBody("the gzip body ends too early")
        if self._end_sent:
            return await self._receive()
        self._end_sent = True
        return {"type": "http.request", "body": b"", "more_body": False}
