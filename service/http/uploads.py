"""A multipart upload, parsed while it streams: the file goes to the store's temporary sibling,
fields to a dict.

Parsing, hashing and writing run in worker threads, so that a slow or hostile body keeps no other
request waiting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import CancelScope
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from adapters_store.errors import BundleTooLarge
from adapters_store.quoting import quote
from adapters_store.store import Store
from adapters_store.upload import Upload
from service.errors import InvalidRequest, MalformedBody, UnsupportedMedia
from service.rollout.upload import UploadOptions
from service.wire.json_body import parse_body
from service.wire.requests import GateBody

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 4096
MAX_CONTENT_TYPE = 1024
MAX_OVERHEAD = 64 * 1024
"""Bytes of a form beside its file: boundaries, part headers, fields."""
PIECE_BYTES = 256 * 1024
"""Bytes that are collected before a thread parses them."""
FILE = "file"
GATE_EXAMPLE = '{"max_drop": 0.05}'
FIELDS = ("domain", "activate", "gate", "create")


@dataclass(slots=True)
class UploadForm:
    """A form with one file part named `file`; its bytes go to `upload` as they come."""

    upload: Upload
    fields: dict[str, str] = field(default_factory=dict)
    has_file: bool = False
    _name: str = ""
    _header: bytes = b""
    _value: bytes = b""
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _ended: bool = False

    async def read(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """Parse a whole body.

        Raises:
            UnsupportedMedia: no multipart form; MalformedBody: a broken one, or not with exactly
                one file;
            InvalidRequest: a field that does not exist, so that a misspelled one is not ignored.
        """
        parser = self._make_parser(content_type)
        try:
            async for piece in _collect(body, self.upload.max_bytes + MAX_OVERHEAD):
                await run_in_threadpool(parser.write, piece)
            parser.finalize()
        except FormParserError as error:
            raise MalformedBody(f"the form is broken: {error}") from error
        if not self._ended:
            raise MalformedBody("the form ends before its last boundary: send it again")
        if not self.has_file:
            raise MalformedBody(
                "the form has no part named `file`: curl -F file=@bundle.safetensors"
            )

    def _make_parser(self, content_type: str) -> MultipartParser:
        # Parsing takes time that grows with the square of the length.
        kind, options = parse_options_header(
            content_type if len(content_type) <= MAX_CONTENT_TYPE else ""
        )
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise UnsupportedMedia(
                f"content type {quote(content_type) if content_type else 'missing'}: expected"
                " multipart/form-data with the bundle as `file`, for example curl -F"
                " file=@bundle.safetensors"
            )
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._on_end,
        }
        try:
            return MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:
            raise MalformedBody(f"the form is broken: {error}") from error

    def flag(self, name: str) -> bool:
        """Read a field that is true or false.

        Raises:
            MalformedBody: neither.
        """
        value = self.fields.get(name, "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise MalformedBody(f"field {name}: expected true or false, got {quote(value)}")
        return value in ("true", "1")

    def read_options(self, queried: str | None) -> UploadOptions:
        """Return what the fields ask for.

        Args:
            queried: the domain that the address names, if it names one.

        Raises:
            MalformedBody: a field cannot be read; InvalidRequest: a gate with wrong values, or two
                different domains.
        """
        gate = self.fields.get("gate")
        return UploadOptions(
            activate=self.flag("activate"),
            create=self.flag("create"),
            gate=None if gate is None else parse_body(GateBody, gate.encode(), GATE_EXAMPLE),
            domain=_agree(queried, self.fields.get("domain")),
        )

    def _begin(self) -> None:
        self._headers = {}
        self._name = ""
        self._header = b""
        self._value = b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data":
            raise MalformedBody("a part of the form has no header `Content-Disposition: form-data`")
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name not in (FILE, *FIELDS):
            raise InvalidRequest(
                f"the form has a part named {quote(self._name)}: expected {FILE}, and if wanted"
                f" {', '.join(FIELDS)}",
                [{"loc": ["body", self._name[:64]], "msg": "unknown field"}],
            )
        if self._name in self.fields or (self._name == FILE and self.has_file):
            raise MalformedBody(
                f"the form has two parts named {self._name}: one upload is one bundle"
            )
        self.has_file = self.has_file or self._name == FILE

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self.upload.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise MalformedBody(f"field {self._name!r} is longer than {MAX_FIELD_BYTES} bytes")

    def _end(self) -> None:
        if self._name == FILE:
            return
        try:
            self.fields[self._name] = self._value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedBody(f"field {self._name}: byte {error.start} is not UTF-8") from error

    def _on_end(self) -> None:
        self._ended = True


@asynccontextmanager
async def receive(store: Store, max_bytes: int) -> AsyncIterator[Upload]:
    """Open a file of the store to stream a bundle into, and leave nothing of it behind but what
    the store added; the event loop waits for neither.

    Raises:
        OutOfSpace: no room even to begin.
    """
    opened = ExitStack()
    try:
        yield await run_in_threadpool(lambda: opened.enter_context(store.receive(max_bytes)))
    finally:
        with CancelScope(shield=True):
            await run_in_threadpool(opened.close)


def _agree(queried: str | None, field: str | None) -> str | None:
    if None not in (queried, field) and queried != field:
        raise InvalidRequest(
            f"the address names domain {quote(queried)}, the form {quote(field)}: "
            "one is enough, the manifest has it too",
            [{"loc": ["query", "domain"], "msg": f"the form has {quote(field)}"}],
        )
    return field if queried is None else queried


async def _collect(body: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """Yield a body in pieces that are worth a thread.

    Raises:
        BundleTooLarge: it is longer than a form of the largest bundle.
    """
    pending = bytearray()
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > most:
            raise BundleTooLarge(f"more than {most} bytes: a bundle holds adapter weights only")
        pending += chunk
        if len(pending) >= PIECE_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)
