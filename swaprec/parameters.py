"""How many parameters a spec trains, before anything is trained."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swaprec.errors import USAGE, Stop
from transrec.adapters import AdapterSpec, SpecError, count_parameters
from transrec.backbone_config import BackboneConfig, adapter_shape, build
from transrec.image_encoder import ImageShape
from transrec.images import Preprocessing
from transrec.text_encoder import TextShape
from transrec.user_encoder import UserShape

_USER = UserShape()
LIKE = {
    "bert-base": BackboneConfig(
        TextShape("bert", 12, 768, 12, 3072, 30522, 512, 2, 1e-12, 0), _USER
    ),
    "roberta-base": BackboneConfig(
        TextShape("roberta", 12, 768, 12, 3072, 50265, 514, 1, 1e-5, 1), _USER
    ),
    "minilm": BackboneConfig(TextShape("bert", 6, 384, 12, 1536, 30522, 512, 2, 1e-12, 0), _USER),
    "vit-base": BackboneConfig(
        None,
        _USER,
        image=ImageShape(12, 768, 12, 3072, 16, 1, 1e-12, Preprocessing(size=224, resize=224)),
    ),
}
"""Sizes of encoders that people start from: nothing has to be downloaded to count."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Parameters of both sides, and of the whole TransRec, which full fine-tuning would train."""

    backbone: str
    item: int
    user: int
    full: int

    @property
    def total(self) -> int:
        """Both sides."""
        return self.item + self.user

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        counts = {"item": self.item, "user": self.user, "total": self.total, "full": self.full}
        return {"backbone": self.backbone, **counts, "share": self.total / self.full}


def count(path: Path, folder: Path | None, like: str | None) -> Counted:
    """Count what the adapter of a TOML file trains.

    Args:
        path: a run's file, or one that holds the spec's tables `item` and `user` alone.
        folder: the backbone; None takes the file's own.
        like: count on an encoder of this name in `LIKE` instead.

    Raises:
        Stop: the file, its spec or the backbone cannot be read.
    """
    raw = _read(path)
    try:
        spec = AdapterSpec.parse(
            raw.get("adapter") or {side: raw[side] for side in ("item", "user") if side in raw}
        )
    except SpecError as error:
        raise Stop(
            f"{path}: {'; '.join(error.problems)}",
            "docs/training.md lists what each kind reads",
            USAGE,
        ) from error
    name, config = _sizes(raw, path, folder, like)
    try:
        counted = count_parameters(spec, adapter_shape(config))
    except SpecError as error:
        raise Stop(
            f"{path} does not fit {name}: {'; '.join(error.problems)}", code=USAGE
        ) from error
    with torch.device("meta"):
        full = sum(parameter.numel() for parameter in build(config).parameters())
    return Counted(name, counted.item, counted.user, full)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}", code=USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Stop(f"{path} is not TOML: {error}", code=USAGE) from error


def _sizes(
    raw: dict[str, Any], path: Path, folder: Path | None, like: str | None
) -> tuple[str, BackboneConfig]:
    if like is not None:
        if like not in LIKE:
            raise Stop(f"--like {like}: expected one of {', '.join(LIKE)}", code=USAGE)
        return like, LIKE[like]
    source = raw.get("backbone", {})
    if folder is None and isinstance(source, dict) and isinstance(source.get("folder"), str):
        folder = path.parent / source["folder"]
    if folder is None or not (folder / "config.json").is_file():
        found = (
            "names no backbone"
            if folder is None
            else f"counts on {folder}, which is no backbone folder"
        )
        raise Stop(
            f"{path} {found}", f"--backbone names one, --like counts on {', '.join(LIKE)}", USAGE
        )
    return str(folder), BackboneConfig.parse(
        json.loads((folder / "config.json").read_text("utf-8"))
    )
