"""Hostile forms around an honest bundle, and unusual ones that are accepted."""

from __future__ import annotations

import json

import numpy as np

from tests.service.hostile import BROKEN, FOREIGN, KIND, Build, Honest, form, part


def cut(honest: Honest, end: int) -> bytes:
    """Cut the end off a form."""
    return form(honest.content())[:-end]


FORMS: dict[str, tuple[Build, str, tuple[int, str]]] = {
    "no body": (lambda _: b"", KIND, BROKEN),
    "no last boundary": (lambda h: cut(h, 9), KIND, BROKEN),
    "half the last boundary": (lambda h: cut(h, 5), KIND, BROKEN),
    "no last boundary after the fields": (
        lambda h: form(h.content(), part("activate", b"true"))[:-7],
        KIND,
        BROKEN,
    ),
    "two files": (lambda h: form(h.content(), part("file", h.content())), KIND, BROKEN),
    "a field twice": (
        lambda h: form(h.content(), part("create", b"1"), part("create", b"1")),
        KIND,
        BROKEN,
    ),
    "no file": (lambda _: part("create", b"true") + b"--x--\r\n", KIND, BROKEN),
    "a field too long": (lambda h: form(h.content(), part("gate", b"x" * 5000)), KIND, BROKEN),
    "an unknown field": (
        lambda h: form(h.content(), part("activat", b"1")),
        KIND,
        (422, "invalid_request"),
    ),
    "a thousand parts": (
        lambda h: form(h.content(), *(part(f"f{n}", b"1") for n in range(1000))),
        KIND,
        (422, "invalid_request"),
    ),
    "a field of a long name": (
        lambda h: form(h.content(), part("n" * 3000, b"1")),
        KIND,
        (422, "invalid_request"),
    ),
    "a part header too long": (
        lambda h: form(h.content(), part("create", b"1", "; a=" + "b" * 9000)),
        KIND,
        BROKEN,
    ),
    "a part of many headers": (
        lambda h: form(h.content()).replace(
            b"\r\n\r\n", b"\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", 1
        ),
        KIND,
        BROKEN,
    ),
    "a part without a name": (
        lambda h: form(h.content()).replace(b'; name="file"', b"", 1),
        KIND,
        (422, "invalid_request"),
    ),
    "a part that is an attachment": (
        lambda h: form(h.content()).replace(b"form-data;", b"attachment;", 1),
        KIND,
        BROKEN,
    ),
    "a part without headers": (
        lambda h: b"--x\r\n\r\n" + h.content() + b"\r\n--x--\r\n",
        KIND,
        BROKEN,
    ),
    "a nested form": (
        lambda h: form(form(h.content())).replace(
            b'filename="b"', b'filename="b"\r\nContent-Type: multipart/mixed', 1
        ),
        KIND,
        FOREIGN,
    ),
    "another boundary": (lambda h: form(h.content()), "multipart/form-data; boundary=y", BROKEN),
    "a boundary of 300 bytes": (
        lambda h: form(h.content()),
        f"multipart/form-data; boundary={'x' * 300}",
        BROKEN,
    ),
    "an empty boundary": (
        lambda h: form(h.content()),
        'multipart/form-data; boundary=""',
        (415, "unsupported_media_type"),
    ),
    "no boundary": (
        lambda h: form(h.content()),
        "multipart/form-data",
        (415, "unsupported_media_type"),
    ),
    "another content type": (
        lambda h: form(h.content()),
        "application/json",
        (415, "unsupported_media_type"),
    ),
    "a long content type": (
        lambda h: form(h.content()),
        "a" * 20_000,
        (415, "unsupported_media_type"),
    ),
    "a content type of semicolons": (
        lambda h: form(h.content()),
        "multipart/form-data; boundary=x" + ";" * 20_000,
        (415, "unsupported_media_type"),
    ),
    "a content type of quotes": (
        lambda h: form(h.content()),
        "multipart/form-data; boundary=x" + '";' * 10_000,
        (415, "unsupported_media_type"),
    ),
    "no content type": (lambda h: form(h.content()), "", (415, "unsupported_media_type")),
    "create is maybe": (lambda h: form(h.content(), part("create", b"maybe")), KIND, BROKEN),
    "create is empty": (lambda h: form(h.content(), part("create", b"")), KIND, BROKEN),
    "activate is a list": (lambda h: form(h.content(), part("activate", b"[true]")), KIND, BROKEN),
    "activate is no text": (
        lambda h: form(h.content(), part("activate", b"\xff\xfe")),
        KIND,
        BROKEN,
    ),
    "gate is no json": (lambda h: form(h.content(), part("gate", b"{")), KIND, BROKEN),
    "gate is deep": (
        lambda h: form(h.content(), part("gate", b"[" * 2000 + b"]" * 2000)),
        KIND,
        BROKEN,
    ),
    "gate is unknown": (
        lambda h: form(h.content(), part("gate", b'{"min_hr": 1}')),
        KIND,
        (422, "invalid_request"),
    ),
    "gate is NaN": (
        lambda h: form(h.content(), part("gate", b'{"min_hr10": NaN}')),
        KIND,
        (422, "invalid_request"),
    ),
    "gate has many strangers": (
        lambda h: form(
            h.content(),
            part("gate", json.dumps({f"{n}": 1 for n in range(400)})[:4090].encode() + b"}"),
        ),
        KIND,
        BROKEN,
    ),
    "a domain that is a path": (
        lambda h: form(h.content(), part("domain", b"../../etc")),
        KIND,
        (404, "domain_not_found"),
    ),
    "a domain that is created is a path": (
        lambda h: form(h.content(), part("domain", b"../x"), part("create", b"true")),
        KIND,
        (422, "invalid_request"),
    ),
    "a domain with a null": (
        lambda h: form(h.content(), part("domain", b"a\0b")),
        KIND,
        (404, "domain_not_found"),
    ),
    "a domain of 4,000 bytes": (
        lambda h: form(h.content(), part("domain", b"d" * 4000)),
        KIND,
        (404, "domain_not_found"),
    ),
    "a million line ends": (lambda _: form(b"{" + b"\r\n" * 500_000), KIND, FOREIGN),
    "a million near boundaries": (lambda _: form(b"{" + b"\r\n--" * 250_000), KIND, FOREIGN),
}
"""The form around the file, its content type."""


def repack(honest: Honest, dtype: str, to: str) -> bytes:
    """Write the tensors in another precision."""
    data = bytearray()
    header = {"__metadata__": honest.header["__metadata__"]}
    for name, entry in honest.header.items():
        if name != "__metadata__":
            values = (
                np.frombuffer(honest.data[slice(*entry["data_offsets"])], "<f4")
                .astype(to)
                .tobytes()
            )
            header[name] = entry | {
                "dtype": dtype,
                "data_offsets": [len(data), len(data) + len(values)],
            }
            data += values
    return honest.with_header(header, bytes(data))


ACCEPTED: dict[str, Build] = {
    "as it is": lambda h: form(h.content()),
    "half precision": lambda h: form(repack(h, "F16", "<f2")),
    "double precision": lambda h: form(repack(h, "F64", "<f8")),
    "a header with spaces": lambda h: form(h.with_raw(json.dumps(h.header).encode() + b" " * 1000)),
    "a manifest of more fields": lambda h: form(
        h.with_fields(team="Oslo ✓", notes=["a\nb"], nested={"a": {"b": 1}})
    ),
    "long curves": lambda h: form(
        h.with_fields(curves={"loss": [1 / (n + 1) for n in range(4000)]})
    ),
    "a file name that is a path": lambda h: form(h.content()).replace(
        b'"b"', b'"../../../etc/passwd"', 1
    ),
    "a file name of controls": lambda h: form(h.content()).replace(
        b'"b"', b'"a\x01\x1b[31m\xff"', 1
    ),
    "a file name of 3,000 bytes": lambda h: form(h.content()).replace(
        b'"b"', b'"' + b"f" * 3000 + b'"', 1
    ),
    "no file name": lambda h: form(h.content()).replace(b'; filename="b"', b"", 1),
    "a type of the part": lambda h: form(h.content()).replace(
        b'"b"', b'"b"\r\nContent-Type: text/html', 1
    ),
    "text after the form": lambda h: form(h.content()) + b"epilogue",
}
"""Forms that are unusual, and bundles that are accepted."""
