"""Names that a shell completes: forms of logs and packaged experiments, without loading what reads them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal, get_args

LogFormat = Literal[
    "canonical",
    "csv",
    "adapter4rec",
    "recbole",
    "mind",
    "amazon",
    "movielens",
    "adressa",
    "hm",
    "microlens",
    "pixelrec",
    "ninerec",
]
FORMS: tuple[str, ...] = get_args(LogFormat)
"""Every key of `training.importers.READERS`, which takes seconds to load."""


def packaged() -> dict[str, Path]:
    """Experiments that come with the package, by name."""
    folder = Path(str(resources.files("training"))) / "configs" / "experiments"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}
