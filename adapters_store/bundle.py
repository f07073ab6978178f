"""A bundle: one `.safetensors` file with a domain's adapter tensors and, in its header, the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from adapters_store.errors import BundleError, Problem
from adapters_store.files import write_beside
from adapters_store.header import Header, TensorEntry, read_header

FORMAT = 1
KEY = "swaprec"
_REQUIRED = ("domain", "kind", "spec", "backbone", "dtype")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    `backbone` is the fingerprint it was trained on, `dtype` the one in which its item vectors were embedded for the
    metrics, `data_digest` the data set's, `parameters` has item, user, total and share, `extra` what we do not know.
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
        value = _json_object(text)
        problems = []
        if value.get("format") != FORMAT:
            problems.append(f"format {value.get('format')!r}, this version of swaprec reads {FORMAT}")
        kinds = {"spec": dict, "parameters": dict, "metrics": dict, "curves": dict, "config": dict, "max_history": int}
        known = [item.name for item in fields(cls) if item.name != "extra"]
        problems += [f"{name} is missing" for name in _REQUIRED if name not in value]
        problems += [
            f"{name} is {value[name]!r}, expected {kinds.get(name, str).__name__}"
            for name in known
            if name in value and not isinstance(value[name], kinds.get(name, str))
        ]
        if problems:
            raise BundleError([Problem("manifest", f"manifest: {problem}") for problem in problems])
        extra = {name: item for name, item in value.items() if name not in {*known, "format"}}
        return cls(**{name: value[name] for name in known if name in value}, extra=extra)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that `parse` reads back."""
        value = asdict(self)
        return {"format": FORMAT, **value.pop("extra"), **value}


def _json_object(text: str | None) -> dict[str, Any]:
    if text is None:
        raise BundleError([Problem("manifest", f'the header has no "{KEY}" entry: no bundle of `swaprec train`')])
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BundleError([Problem("manifest", f"the manifest is not JSON: {error}")]) from error
    if not isinstance(value, dict):
        raise BundleError([Problem("manifest", "the manifest is not a JSON object")])
    return value


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in memory: tensors as float32 arrays by name, and the digest of the file's bytes."""

    manifest: Manifest
    tensors: dict[str, NDArray[np.float32]]
    digest: str
    size: int


def write_bundle(path: Path, manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Write a bundle beside its place, sync and rename it in; return the digest of its bytes."""
    arrays = {name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())}
    content = save(arrays, metadata={KEY: json.dumps(manifest.to_json(), sort_keys=True)})
    write_beside(path, content)
    return hashlib.sha256(content).hexdigest()


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, its header checked before its data.

    Raises:
        UnsupportedFormat: a file of another format.
        BundleError: a damaged file or manifest.
    """
    header = read_header(path)
    manifest = Manifest.parse(header.metadata.get(KEY))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Bundle(manifest, _read_tensors(path, header), digest, path.stat().st_size)


def _read_tensors(path: Path, header: Header) -> dict[str, NDArray[np.float32]]:
    data = np.memmap(path, dtype=np.uint8, mode="r")[header.data_start :] if header.tensors else np.zeros(0, np.uint8)
    return {name: _as_float32(data[entry.start : entry.end].tobytes(), entry) for name, entry in header.tensors.items()}


def _as_float32(raw: bytes, entry: TensorEntry) -> NDArray[np.float32]:
    if entry.dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, dtype={"F64": "<f8", "F32": "<f4", "F16": "<f2"}[entry.dtype]).astype(np.float32)
    return values.reshape(entry.shape)


def check_bundle(bundle: Bundle, expected: Mapping[str, Sequence[int]], backbone: str) -> list[Problem]:
    """Compare a bundle with what its spec needs on a backbone; return every problem.

    Args:
        bundle: as read.
        expected: shape by tensor name.
        backbone: fingerprint of the backbone that would run it.
    """
    problems = []
    if bundle.manifest.backbone != backbone:
        given, here = bundle.manifest.backbone, backbone
        detail = f"trained on backbone {given[:12]}, this domain runs {here[:12]}: train it on that backbone again"
        problems.append(Problem("backbone_mismatch", detail, None, here, given))
    if bundle.manifest.dtype not in ("float32", "bfloat16"):
        detail = f"manifest: dtype {bundle.manifest.dtype!r}, expected float32 or bfloat16"
        problems.append(Problem("manifest", detail, None, ["float32", "bfloat16"], bundle.manifest.dtype))
    problems += [
        Problem("missing", f"tensor {name} is missing", name, list(shape))
        for name, shape in expected.items()
        if name not in bundle.tensors
    ]
    for name, values in bundle.tensors.items():
        problems += _check_tensor(name, values, expected.get(name))
    return problems


def _check_tensor(name: str, values: NDArray[np.float32], expected: Sequence[int] | None) -> list[Problem]:
    if expected is None:
        return [Problem("unexpected", f"tensor {name} is not part of the spec", name, None, list(values.shape))]
    problems = []
    if values.shape != tuple(expected):
        detail = f"tensor {name}: shape {list(values.shape)}, expected {list(expected)}"
        problems.append(Problem("shape_mismatch", detail, name, list(expected), list(values.shape)))
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        problems.append(
            Problem("non_finite", f"tensor {name}: {bad} of {values.size} values are NaN or infinite", name)
        )
    return problems
