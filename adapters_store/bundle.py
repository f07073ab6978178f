"""A bundle: one `.safetensors` file with a domain's
adapter tensors and, in its header, the manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from adapters_store.errors import BundleError, BundleProblem
from adapters_store.files import atomic_write, digest_of
from adapters_store.header import (
    MAX_HEADER,
    MAX_STORED_HEADER,
    Header,
    TensorEntry,
    read_header,
    show_name,
)
from adapters_store.manifest_schema import FORMAT, MAX_MANIFEST, find_flaws
from adapters_store.quoting import clip, quote
from adapters_store.strict_json import parse_object

KEY = "swaprec"
DTYPES = ("float32", "bfloat16")
_NEEDED = ("domain", "spec", "backbone", "dtype")
"""Fields without which a bundle cannot be served."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    `backbone` is the fingerprint it was trained on, `dtype` the one in which its item vectors were
    embedded for the metrics, `data_digest` the data set's, `parameters` has item, user, total and
    share, `extra` what we do not know.
    """

    domain: str
    kind: str
    spec: dict[str, Any]
    backbone: str
    dtype: str
    data_digest: str = ""
    max_history: int = 0
    parameters: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    commit: str = ""
    created_at: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> Manifest:
        """Read a manifest from the header's metadata.

        Raises:
            BundleError: with every problem found.
        """
        value = _parse_text(text)
        flaws = [flaw for found in find_flaws(value).values() for flaw in found]
        if flaws:
            raise BundleError([BundleProblem("manifest", f"manifest: {flaw}") for flaw in flaws])
        return cls._of(value)

    @classmethod
    def parse_stored(cls, text: str | None) -> Manifest:
        """Read a manifest that the store accepted, maybe by looser rules: what only describes it is
        left out.

        Raises:
            BundleError: it lacks what serving needs.
        """
        try:
            value = json.loads(text or "null")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            return cls.parse(text)
        flaws = find_flaws(value)
        if any(name in flaws for name in (*_NEEDED, "format")):
            return cls.parse(text)
        return cls._of(
            {"kind": "unknown"} | {name: item for name, item in value.items() if name not in flaws}
        )

    @classmethod
    def _of(cls, value: Mapping[str, Any]) -> Manifest:
        known = {item.name for item in fields(cls)} - {"extra"}
        extra = {name: item for name, item in value.items() if name not in {*known, "format"}}
        return cls(**{name: value[name] for name in known if name in value}, extra=extra)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that `parse` reads back."""
        value = asdict(self)
        return {"format": FORMAT, **value.pop("extra"), **value}


def _parse_text(text: str | None) -> dict[str, Any]:
    if text is None:
        raise BundleError(
            [
                BundleProblem(
                    "manifest", f'the header has no "{KEY}" entry: no bundle of `swaprec train`'
                )
            ]
        )
    if len(text) > MAX_MANIFEST:
        detail = f"the manifest has {len(text)} characters, expected at most {MAX_MANIFEST}"
        raise BundleError([BundleProblem("manifest", detail)])
    try:
        return parse_object(text)
    except ValueError as error:
        raise BundleError(
            [BundleProblem("manifest", f"the manifest cannot be read: {error}")]
        ) from error


class TensorFile(Mapping[str, NDArray[np.float32]]):
    """The tensors of a file whose header was checked, each read as float32 when it is asked for."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        entry = self._header.tensors[name]
        with self._path.open("rb") as file:
            file.seek(self._header.data_start + entry.start)
            raw = file.read(entry.end - entry.start)
        if len(raw) < entry.end - entry.start:
            raise BundleError(
                [
                    BundleProblem(
                        "truncated", f"tensor {name}: the file was cut while it was read", name
                    )
                ]
            )
        return _as_float32(raw, entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.tensors)

    def __len__(self) -> int:
        return len(self._header.tensors)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle: its manifest, shapes and float32 arrays by tensor name,
    and the digest of the file's bytes.
    """

    manifest: Manifest
    shapes: Mapping[str, tuple[int, ...]]
    tensors: Mapping[str, NDArray[np.float32]]
    digest: str
    size: int


def write_bundle(path: Path, manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Write a bundle beside its place, sync and rename it in; return the digest of its bytes."""
    arrays = {name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())}
    content = save(arrays, metadata={KEY: json.dumps(manifest.to_json(), sort_keys=True)})
    atomic_write(path, content)
    return hashlib.sha256(content).hexdigest()


def open_bundle(path: Path, digest: str) -> Bundle:
    """Read header and manifest of an upload; its tensors are read from the file when they are asked
    for.

    Raises:
        UnsupportedFormat: a file of another format.
        BundleError: a damaged file or manifest.
    """
    header = read_header(path, MAX_HEADER)
    manifest = Manifest.parse(header.metadata.get(KEY))
    return Bundle(manifest, _shapes(header), TensorFile(path, header), digest, path.stat().st_size)


def read_bundle(path: Path, *, stored: bool = False) -> Bundle:
    """Read a whole bundle, its header checked before its data.

    Args:
        path: of the file.
        stored: the store accepted it, maybe by the looser rules of an earlier version.

    Raises:
        UnsupportedFormat: a file of another format.
        BundleError: a damaged file or manifest.
    """
    header = read_header(path, MAX_STORED_HEADER if stored else MAX_HEADER)
    text = header.metadata.get(KEY)
    manifest = Manifest.parse_stored(text) if stored else Manifest.parse(text)
    return Bundle(
        manifest,
        _shapes(header),
        dict(TensorFile(path, header)),
        digest_of(path),
        path.stat().st_size,
    )


def _shapes(header: Header) -> dict[str, tuple[int, ...]]:
    return {name: entry.shape for name, entry in header.tensors.items()}


def _as_float32(raw: bytes, entry: TensorEntry) -> NDArray[np.float32]:
    if entry.dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        stored = np.frombuffer(raw, dtype={"F64": "<f8", "F32": "<f4", "F16": "<f2"}[entry.dtype])
        # What float32 cannot hold becomes infinite, which is refused with the tensor's name.
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored.astype(np.float32)
    return values.reshape(entry.shape)


def check_bundle(
    bundle: Bundle, expected: Mapping[str, Sequence[int]], backbone: str
) -> list[BundleProblem]:
    """Compare a bundle with what its spec needs on a backbone; return every problem.

    Args:
        bundle: as read.
        expected: shape by tensor name.
        backbone: fingerprint of the backbone that would run it.
    """
    return [*check_declaration(bundle, expected, backbone), *_check_values(bundle, expected)]


def check_declaration(
    bundle: Bundle, expected: Mapping[str, Sequence[int]], backbone: str
) -> list[BundleProblem]:
    """Compare manifest, names and shapes; no tensor is read. Arguments as of `check_bundle`."""
    problems = []
    if bundle.manifest.backbone != backbone:
        given = bundle.manifest.backbone
        detail = f"trained on backbone {quote(given[:12])}, this domain runs {backbone[:12]}"
        detail = f"{detail}: train it on that backbone again"
        problems.append(BundleProblem("backbone_mismatch", detail, None, backbone, clip(given, 80)))
    if bundle.manifest.dtype not in DTYPES:
        detail = f"manifest: dtype {quote(bundle.manifest.dtype)}, expected float32 or bfloat16"
        problems.append(
            BundleProblem("manifest", detail, None, list(DTYPES), bundle.manifest.dtype)
        )
    problems += [
        BundleProblem("missing", f"tensor {name} is missing", name, list(shape))
        for name, shape in expected.items()
        if name not in bundle.shapes
    ]
    for name, shape in bundle.shapes.items():
        problems += _check_shape(name, shape, expected.get(name))
    return problems


def _check_shape(
    name: str, shape: Sequence[int], expected: Sequence[int] | None
) -> list[BundleProblem]:
    if expected is None:
        shown = show_name(name)
        return [
            BundleProblem(
                "unexpected", f"tensor {shown} is not part of the spec", shown, None, list(shape)
            )
        ]
    if tuple(shape) == tuple(expected):
        return []
    detail = f"tensor {name}: shape {list(shape)}, expected {list(expected)}"
    return [BundleProblem("shape_mismatch", detail, name, list(expected), list(shape))]


def _check_values(bundle: Bundle, expected: Mapping[str, Sequence[int]]) -> list[BundleProblem]:
    """Count values that are not finite in tensors
    of the expected shape: no other tensor is read.
    """
    problems = []
    for name, shape in expected.items():
        if bundle.shapes.get(name) != tuple(shape):
            continue
        values = bundle.tensors[name]
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            detail = f"tensor {name}: {bad} of {values.size} values are NaN or infinite"
            problems.append(BundleProblem("non_finite", detail, name))
    return problems
