"""Hostile bundles: each a file made from an honest one,
with the status and the code of its answer.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

NAME = "item.0.ffn.up.bias"
BAD = (422, "incompatible_bundle")
BROKEN = (400, "malformed_body")
FOREIGN = (415, "unsupported_format")
KIND = "multipart/form-data; boundary=x"


@dataclass(frozen=True, slots=True)
class Honest:
    """A bundle that is accepted: its header, manifest and data."""

    header: dict[str, Any]
    manifest: dict[str, Any]
    data: bytes

    @classmethod
    def of(cls, content: bytes) -> Honest:
        """Take a bundle apart."""
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        return cls(header, json.loads(header["__metadata__"]["swaprec"]), content[8 + length :])

    def with_raw(self, raw: bytes, data: bytes | None = None) -> bytes:
        """Put these bytes where the header was."""
        return len(raw).to_bytes(8, "little") + raw + (self.data if data is None else data)

    def with_header(self, header: dict[str, Any], data: bytes | None = None) -> bytes:
        """Put another header before the data."""
        return self.with_raw(json.dumps(header).encode(), data)

    def with_text(self, manifest: str, data: bytes | None = None) -> bytes:
        """Put another manifest, given as text, into the header."""
        return self.with_header(self.header | {"__metadata__": {"swaprec": manifest}}, data)

    def with_fields(self, **fields: Any) -> bytes:
        """Change fields of the manifest."""
        return self.with_text(json.dumps(self.manifest | fields))

    def with_entry(self, **fields: Any) -> bytes:
        """Change one tensor's entry."""
        return self.with_header(self.header | {NAME: self.header[NAME] | fields})

    def with_name(self, name: str) -> bytes:
        """Give one tensor another name."""
        return self.with_header(
            {name if key == NAME else key: entry for key, entry in self.header.items()}
        )

    def with_values(self, values: np.ndarray[Any, Any], dtype: str = "F32") -> bytes:
        """Replace all data by one tensor's, and the others by none."""
        raw = values.tobytes()
        header = {"__metadata__": self.header["__metadata__"]}
        header[NAME] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [0, len(raw)]}
        return self.with_header(header, raw)

    def with_spec(self, **user: Any) -> bytes:
        """Change the user side of the spec."""
        return self.with_fields(
            spec=self.manifest["spec"] | {"user": {"kind": "houlsby", "hidden": 4} | user}
        )

    def content(self) -> bytes:
        """Put the honest bundle together."""
        return self.with_header(self.header)


def part(name: str, value: bytes, more: str = "") -> bytes:
    """Write one part of a form with boundary x."""
    return (
        f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + value
        + b"\r\n"
    )


def form(content: bytes, *others: bytes) -> bytes:
    """Write a form with a file and other parts."""
    return b"".join([part("file", content, '; filename="b"'), *others, b"--x--\r\n"])


def zipped() -> bytes:
    """Write a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"x" * 100)
    return file.getvalue()


def many_tensors(honest: Honest, count: int) -> bytes:
    """Add empty-looking tensors, each of one value."""
    start = len(honest.data)
    entries = ",".join(
        f'"t{n}":{{"dtype":"F32","shape":[1],"data_offsets":[{start + 4 * n},{start + 4 * n + 4}]}}'
        for n in range(count)
    )
    raw = json.dumps(honest.header)[:-1] + "," + entries + "}"
    return honest.with_raw(raw.encode(), honest.data + bytes(4 * count))


DIGITS = "9" * 4300
HUGE_SHAPES = [
    f'"t{n}":{{"dtype":"F32","shape":[{DIGITS}],"data_offsets":[0,4]}}' for n in range(460)
]
NINES = "9" * 19


def shaped(dimensions: int) -> str:
    """Return a tensor's header entry with a shape of so many long numbers."""
    shape = ",".join([NINES] * dimensions)
    return f'{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,4]}}'


Build = Callable[[Honest], bytes]
FILES: dict[str, tuple[Build, tuple[int, str]]] = {
    "empty": (lambda _: b"", FOREIGN),
    "one byte": (lambda _: b"\0", FOREIGN),
    "eight zeros": (lambda _: bytes(8), FOREIGN),
    "a text": (lambda _: b"hello, this is no bundle at all", FOREIGN),
    "gzip": (lambda h: gzip.compress(h.content()), FOREIGN),
    "zip": (lambda _: zipped(), FOREIGN),
    "pickle": (lambda _: pickle.dumps({"a": [1.0] * 100}), FOREIGN),
    "gguf": (lambda _: b"GGUF" + bytes(100), FOREIGN),
    "numpy": (lambda _: b"\x93NUMPY\x01\x00" + bytes(100), FOREIGN),
    "truncated data": (lambda h: h.content()[:-7], BAD),
    "truncated header": (lambda h: h.content()[:60], BAD),
    "trailing bytes": (lambda h: h.content() + b"more", BAD),
    "header length 2^63": (lambda _: (1 << 63).to_bytes(8, "little") + b"{}", FOREIGN),
    "header over the limit": (
        lambda h: h.with_raw(json.dumps(h.header).encode() + b" " * (1 << 20)),
        BAD,
    ),
    "utf-16 header": (lambda h: h.with_raw(json.dumps(h.header).encode("utf-16")), BAD),
    "utf-8 header with a mark": (
        lambda h: h.with_raw(b"\xef\xbb\xbf" + json.dumps(h.header).encode()),
        BAD,
    ),
    "latin-1 header": (lambda h: h.with_raw(b'{"\xe9": 1}'), BAD),
    "header is a list": (lambda h: h.with_raw(b"[1, 2, 3]"), BAD),
    "header is no json": (lambda h: h.with_raw(b"{nope}"), BAD),
    "header has a key twice": (lambda h: h.with_raw(b'{"a": 1, "a": 2}'), BAD),
    "header is nested deep": (
        lambda h: h.with_raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        BAD,
    ),
    "header is lists deep": (
        lambda h: h.with_raw(b'{"a":' + b"[" * 500_000 + b"]" * 400_000 + b"}"),
        BAD,
    ),
    "digits without end": (
        lambda h: h.with_raw(f"{{{','.join(HUGE_SHAPES[:200])}}}".encode()),
        BAD,
    ),
    "digits without end, 2 MB": (
        lambda h: h.with_raw(f"{{{','.join(HUGE_SHAPES)}}}".encode()),
        BAD,
    ),
    "65 dimensions of 19 digits": (
        lambda h: h.with_raw(f'{{"a":{shaped(65)}}}'.encode()),
        BAD,
    ),
    "two thousand shapes of 8 x 19 digits": (
        lambda h: h.with_raw(
            "{{{}}}".format(",".join(f'"{n}":{shaped(8)}' for n in range(2000))).encode()
        ),
        BAD,
    ),
    "sixty thousand numbers": (lambda h: h.with_raw(b'{"a":[' + b"0," * 60_000 + b"0]}"), BAD),
    "sixty thousand empty lists": (lambda h: h.with_raw(b'{"a":[' + b"[]," * 60_000 + b"0]}"), BAD),
    "half a million numbers": (lambda h: h.with_raw(b'{"a":[' + b"0," * 500_000 + b"0]}"), BAD),
    "1e400 in a shape": (
        lambda h: h.with_raw(b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,4]}}'),
        BAD,
    ),
    "two thousand tensors": (lambda h: many_tensors(h, 2000), BAD),
    "five thousand tensors": (lambda h: many_tensors(h, 5000), BAD),
    "250,000 tensors": (lambda h: many_tensors(h, 250_000), BAD),
    "metadata is a list": (lambda h: h.with_header(h.header | {"__metadata__": []}), BAD),
    "metadata holds numbers": (
        lambda h: h.with_header(h.header | {"__metadata__": {"swaprec": 1}}),
        BAD,
    ),
    "metadata is missing": (
        lambda h: h.with_header({k: v for k, v in h.header.items() if k[0] != "_"}),
        BAD,
    ),
    "tensor is null": (lambda h: h.with_header(h.header | {NAME: None}), BAD),
    "tensor has a stranger's key": (lambda h: h.with_entry(extra=1), BAD),
    "dtype is a list": (lambda h: h.with_entry(dtype=["F32"]), BAD),
    "dtype is null": (lambda h: h.with_entry(dtype=None), BAD),
    "dtype is unknown": (lambda h: h.with_entry(dtype="F31"), BAD),
    "dtype is long": (lambda h: h.with_entry(dtype="F" * 200_000), BAD),
    "dtype of integers": (lambda h: h.with_entry(dtype="I64"), BAD),
    "shape is text": (lambda h: h.with_entry(shape="16"), BAD),
    "shape has a fraction": (lambda h: h.with_entry(shape=[16.0]), BAD),
    "shape has true": (lambda h: h.with_entry(shape=[True, 16]), BAD),
    "shape is negative": (lambda h: h.with_entry(shape=[-16]), BAD),
    "shape has 65 dimensions": (lambda h: h.with_entry(shape=[1] * 64 + [16]), BAD),
    "shape has a zero": (lambda h: h.with_entry(shape=[0, 10**18], data_offsets=[0, 0]), BAD),
    "shape is huge": (lambda h: h.with_entry(shape=[2**62, 2**62]), BAD),
    "shape is 2^64": (lambda h: h.with_entry(shape=[2**64]), BAD),
    "shape has no dimension": (lambda h: h.with_entry(shape=[]), BAD),
    "offsets overlap": (lambda h: h.with_entry(data_offsets=[0, 64]), BAD),
    "offsets leave a gap": (lambda h: h.with_header(h.header, bytes(64) + h.data), BAD),
    "offsets are negative": (lambda h: h.with_entry(data_offsets=[-64, 0]), BAD),
    "offsets go backwards": (lambda h: h.with_entry(data_offsets=[64, 0]), BAD),
    "offsets are fractions": (lambda h: h.with_entry(data_offsets=[0.0, 64.0]), BAD),
    "offsets are booleans": (lambda h: h.with_entry(data_offsets=[False, True]), BAD),
    "offsets are 2^63": (lambda h: h.with_entry(data_offsets=[2**63, 2**63 + 64]), BAD),
    "offsets are three": (lambda h: h.with_entry(data_offsets=[0, 64, 64]), BAD),
    "offsets are text": (lambda h: h.with_entry(data_offsets="ab"), BAD),
    "name is empty": (lambda h: h.with_name(""), BAD),
    "name is a path": (lambda h: h.with_name("../../etc/passwd"), BAD),
    "name has a control character": (lambda h: h.with_name("a\nb\0c\x1b[31m"), BAD),
    "name is half a surrogate": (lambda h: h.with_name("\ud800"), BAD),
    "name is long": (lambda h: h.with_name("n" * 100_000), BAD),
    "name is not ascii": (lambda h: h.with_name("\U0001f3ac" * 200), BAD),
    "manifest is missing": (lambda h: h.with_header(h.header | {"__metadata__": {}}), BAD),
    "manifest is empty": (lambda h: h.with_text(""), BAD),
    "manifest is a list": (lambda h: h.with_text("[]"), BAD),
    "manifest is nested deep": (
        lambda h: h.with_text('{"config":' + "[" * 60_000 + "]" * 60_000 + "}"),
        BAD,
    ),
    "manifest is nested 20 deep": (
        lambda h: h.with_fields(config={"a": json.loads("[" * 20 + "]" * 20)}),
        BAD,
    ),
    "manifest has a key twice": (lambda h: h.with_text('{"domain": "a", "domain": "movies"}'), BAD),
    "manifest has long numbers": (lambda h: h.with_text('{"max_history": ' + DIGITS + "}"), BAD),
    "manifest is large": (lambda h: h.with_fields(anything="x" * 300_000), BAD),
    "format 2": (lambda h: h.with_fields(format=2), BAD),
    "format true": (lambda h: h.with_fields(format=True), BAD),
    "format missing": (
        lambda h: h.with_text(json.dumps({k: v for k, v in h.manifest.items() if k != "format"})),
        BAD,
    ),
    "kind is half a surrogate": (lambda h: h.with_fields(kind="\ud800"), BAD),
    "kind is null": (lambda h: h.with_fields(kind=None), BAD),
    "kind is long": (lambda h: h.with_fields(kind="k" * 10_000), BAD),
    "curves hold text": (lambda h: h.with_fields(curves={"a": "x"}), BAD),
    "curves hold NaN": (lambda h: h.with_fields(curves={"loss": [float("nan")]}), BAD),
    "curves hold 1e400": (
        lambda h: h.with_text(
            json.dumps(h.manifest | {"curves": {"a": [7]}}).replace("7", "1e400")
        ),
        BAD,
    ),
    "curves are many": (lambda h: h.with_fields(curves={str(n): [1.0] for n in range(1000)}), BAD),
    "curves hold texts": (lambda h: h.with_fields(curves={"a": ["x"] * 20_000}), BAD),
    "metrics hold NaN": (lambda h: h.with_fields(metrics={"hr": float("nan")}), BAD),
    "metrics hold infinity": (lambda h: h.with_fields(metrics={"hr": float("-inf")}), BAD),
    "metrics are large": (lambda h: h.with_fields(metrics={"a": ["y" * 100] * 1000}), BAD),
    "metrics of 15 MB": (lambda h: h.with_fields(metrics={"a": "y" * 15_000_000}), BAD),
    "metrics are a list": (lambda h: h.with_fields(metrics=[1]), BAD),
    "parameters are text": (lambda h: h.with_fields(parameters={"total": "many"}), BAD),
    "parameters are many": (
        lambda h: h.with_fields(parameters={str(n): n for n in range(200)}),
        BAD,
    ),
    "max_history is text": (lambda h: h.with_fields(max_history="6"), BAD),
    "max_history is true": (lambda h: h.with_fields(max_history=True), BAD),
    "max_history is negative": (lambda h: h.with_fields(max_history=-1), BAD),
    "commit is a list": (lambda h: h.with_fields(commit=["a"]), BAD),
    "created_at has control characters": (lambda h: h.with_fields(created_at="2026\0"), BAD),
    "dtype of the manifest": (lambda h: h.with_fields(dtype="int8"), BAD),
    "dtype of the manifest is a list": (lambda h: h.with_fields(dtype=["float32"]), BAD),
    "another backbone": (lambda h: h.with_fields(backbone="0" * 64), BAD),
    "backbone is long": (lambda h: h.with_fields(backbone="0" * 100_000), BAD),
    "domain is a path": (lambda h: h.with_fields(domain="../../etc"), BAD),
    "domain is dots": (lambda h: h.with_fields(domain=".."), BAD),
    "domain is a number": (lambda h: h.with_fields(domain=3), BAD),
    "domain ends in a newline": (lambda h: h.with_fields(domain="movies\n"), BAD),
    "domain is unknown": (lambda h: h.with_fields(domain="books"), (404, "domain_not_found")),
    "spec is a list": (lambda h: h.with_fields(spec=["houlsby"]), BAD),
    "spec of an unknown kind": (lambda h: h.with_spec(kind="houlsbi"), BAD),
    "spec of another kind": (lambda h: h.with_spec(kind="pfeiffer"), BAD),
    "spec kind is a list": (lambda h: h.with_spec(kind=["houlsby"]), BAD),
    "spec of another size": (lambda h: h.with_spec(hidden=5), BAD),
    "spec is too wide": (lambda h: h.with_spec(hidden=65_536), BAD),
    "spec hidden 2^62": (lambda h: h.with_spec(hidden=2**62), BAD),
    "spec hidden is a fraction": (lambda h: h.with_spec(hidden=4.5), BAD),
    "spec of layers beyond": (lambda h: h.with_spec(layers=[0, 99]), BAD),
    "spec of many layers": (lambda h: h.with_spec(layers=list(range(1500))), BAD),
    "spec of a third side": (lambda h: h.with_fields(spec={**h.manifest["spec"], "both": {}}), BAD),
    "spec of many tokens": (lambda h: h.with_spec(kind="prefix", hidden=None, tokens=65_536), BAD),
    "spec is large": (lambda h: h.with_fields(spec={"item": {"kind": "x" * 20_000}}), BAD),
    "values overflow float32": (lambda h: h.with_values(np.full(16, 1e300), "F64"), BAD),
    "values overflow float16": (
        lambda h: h.with_values(np.full(16, np.inf, np.float16), "F16"),
        BAD,
    ),
    "values are NaN": (
        lambda h: h.with_header(h.header, np.full(len(h.data) // 4, np.nan, "f4").tobytes()),
        BAD,
    ),
}
"""The file, in a form that is as it should be."""
