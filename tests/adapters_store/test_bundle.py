from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters_store.bundle import KEY, Manifest, check_bundle, read_bundle, write_bundle
from adapters_store.errors import BundleError, UnsupportedFormat

MANIFEST = Manifest(
    domain="movies",
    kind="houlsby",
    spec={"item": {"kind": "houlsby"}, "user": {}},
    backbone="f" * 64,
    dtype="float32",
    metrics={"test": {"hr": 0.3}},
)
TENSORS = {
    "item.0.ffn.down.weight": np.ones((4, 8), np.float32),
    "item.0.ffn.down.bias": np.zeros(4, np.float32),
}
SHAPES = {name: value.shape for name, value in TENSORS.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "b.safetensors", MANIFEST, TENSORS)
    return tmp_path / "b.safetensors"


def kinds(caught: pytest.ExceptionInfo[BundleError]) -> set[str]:
    return {problem.kind for problem in caught.value.problems}


def rewrite_header(path: Path, change: Callable[[Any], object]) -> None:
    """Change a bundle's JSON header in place; `change` is a callable on the parsed header."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + length :])


def test_a_bundle_survives_the_file_and_any_safetensors_reader_opens_it(path: Path) -> None:
    bundle = read_bundle(path)
    assert bundle.manifest == MANIFEST
    assert all(np.array_equal(bundle.tensors[name], value) for name, value in TENSORS.items())
    assert set(load_file(path)) == set(TENSORS)
    assert check_bundle(bundle, SHAPES, "f" * 64) == []


def test_the_same_content_has_the_same_digest(tmp_path: Path, path: Path) -> None:
    other = write_bundle(tmp_path / "c.safetensors", MANIFEST, dict(reversed(TENSORS.items())))
    assert other == read_bundle(path).digest


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    write_bundle(tmp_path / "h.safetensors", MANIFEST, {"a": np.array([1.5, -2.0], np.float16)})
    assert read_bundle(tmp_path / "h.safetensors").tensors["a"].tolist() == [1.5, -2.0]
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    save_torch(
        {"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)},
        tmp_path / "b16.safetensors",
        metadata={KEY: json.dumps(MANIFEST.to_json())},
    )
    assert read_bundle(tmp_path / "b16.safetensors").tensors["a"].tolist() == [1.5, -2.0]


def test_what_the_manifest_says_beyond_our_fields_is_kept(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x.safetensors", replace(MANIFEST, extra={"team": "oslo"}), TENSORS)
    assert read_bundle(tmp_path / "x.safetensors").manifest.extra == {"team": "oslo"}


def test_every_problem_of_a_bundle_is_in_one_answer(tmp_path: Path) -> None:
    tensors = {
        "item.0.ffn.down.weight": np.ones((4, 9), np.float32),
        "stranger": np.array([np.nan, np.inf, 1.0], np.float32),
    }
    write_bundle(tmp_path / "bad.safetensors", replace(MANIFEST, dtype="int8"), tensors)
    problems = check_bundle(read_bundle(tmp_path / "bad.safetensors"), SHAPES, "0" * 64)
    assert sorted(problem.kind for problem in problems) == [
        "backbone_mismatch",
        "manifest",
        "missing",
        "shape_mismatch",
        "unexpected",
    ]


def test_not_finite_values_are_counted_by_tensor(tmp_path: Path) -> None:
    write_bundle(
        tmp_path / "nan.safetensors",
        MANIFEST,
        {**TENSORS, "item.0.ffn.down.bias": np.array([0, np.nan, np.inf, 1])},
    )
    problems = check_bundle(read_bundle(tmp_path / "nan.safetensors"), SHAPES, "f" * 64)
    assert [problem.detail for problem in problems] == [
        "tensor item.0.ffn.down.bias: 2 of 4 values are NaN or infinite"
    ]


def test_a_header_that_is_no_json_is_quoted_as_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes((16).to_bytes(8, "little") + b"\xffabc" + b" " * 20)
    with pytest.raises(BundleError, match=r'the header begins with "\\\\xffabc", expected \{'):
        read_bundle(tmp_path / "x")


@pytest.mark.parametrize("cut", [1, 7, 60, 130])
def test_a_truncated_bundle_is_refused_with_the_byte_counts(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(BundleError, match=f"ends after {len(whole) - cut} of {len(whole)} bytes"):
        read_bundle(path)


@pytest.mark.parametrize("size", [0, 3, 8])
def test_a_file_too_short_to_be_anything_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "short").write_bytes(b"\0" * size)
    with pytest.raises(UnsupportedFormat, match=f"{size} bytes that is not safetensors"):
        read_bundle(tmp_path / "short")


def test_pickles_and_archives_are_refused_with_how_to_convert(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", "x")
    for name, content in (("p.pt", pickle.dumps({"a": 1})), ("z.bin", archive.getvalue())):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnsupportedFormat, match=r"safetensors\.torch\.save_file"):
            read_bundle(tmp_path / name)


def test_a_bundle_whose_header_length_looks_like_a_pickle_is_still_a_bundle(tmp_path: Path) -> None:
    for padding in range(256):  # one of these headers has a length whose first byte is 0x80
        manifest = replace(MANIFEST, commit="x" * padding)
        write_bundle(tmp_path / "p.safetensors", manifest, TENSORS)
        if (tmp_path / "p.safetensors").read_bytes()[0] == 0x80:
            break
    assert (tmp_path / "p.safetensors").read_bytes()[0] == 0x80
    assert read_bundle(tmp_path / "p.safetensors").manifest == manifest


def test_offsets_that_overlap_or_leave_the_file_are_refused(path: Path) -> None:
    rewrite_header(path, lambda h: h["item.0.ffn.down.weight"].update(data_offsets=[0, 128]))
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    assert kinds(caught) == {"header"}


def test_a_shape_that_does_not_fill_its_bytes_is_refused(path: Path) -> None:
    rewrite_header(path, lambda h: h["item.0.ffn.down.weight"].update(shape=[4, 10**9]))
    with pytest.raises(BundleError, match="does not fill"):
        read_bundle(path)


def test_integer_tensors_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.arange(4)}, tmp_path / "i", metadata={KEY: json.dumps(MANIFEST.to_json())})
    with pytest.raises(BundleError, match='dtype "I64"'):
        read_bundle(tmp_path / "i")


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (None, 'no "swaprec" entry'),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "format null.*domain is missing.*kind is missing.*spec is missing"),
        (
            json.dumps({**MANIFEST.to_json(), "spec": 3, "format": 2}),
            "format 2.*spec is 3, expected a valid dictionary",
        ),
    ],
)
def test_a_manifest_that_is_none_says_why(tmp_path: Path, manifest: str | None, says: str) -> None:
    save_file(TENSORS, tmp_path / "m", metadata={} if manifest is None else {KEY: manifest})
    with pytest.raises(BundleError, match=says):
        read_bundle(tmp_path / "m")


def test_no_damaged_byte_of_the_header_gets_past_as_another_error(path: Path) -> None:
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[int(rng.integers(0, length))] = int(rng.integers(0, 256))
        path.write_bytes(bytes(damaged))
        try:
            check_bundle(read_bundle(path), SHAPES, "f" * 64)
        except (BundleError, UnsupportedFormat):
            refused += 1
    assert refused > 100
