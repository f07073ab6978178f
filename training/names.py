"""Names of forms of logs, packaged experiments and a run's bundle,
without loading what reads and writes them.
"""

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
BUNDLE = "bundle.safetensors"
"""The file in a run's folder that holds the adapter."""
FORMS: tuple[str, ...] = get_args(LogFormat)
"""Every key of `training.importers.READERS`, which takes seconds to load."""


def packaged() -> dict[str, Path]:
    """Experiments that come with the package, by name."""
    folder = Path(str(resources.files("training"))) / "configs" / "experiments"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}
