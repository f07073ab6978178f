"""Stand-ins for what a bare machine lacks and no section needs.

The importers of logs need polars, whose wheel is large; the training section draws its log and only
imports the modules. The service asks for the version of the installed project; a machine that runs
a checkout has none.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

POLARS = '''"""Stands in for polars: modules can be imported, nothing can be called."""


class _Missing:
    def __init__(self, *_args, **_more):
        raise RuntimeError("polars is not installed here")


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Missing
'''
ERRORS = '''class PolarsError(Exception):
    """Never raised."""
'''
METADATA = "Metadata-Version: 2.1\nName: swaprec\nVersion: 0.0.0\n"


def environment(folder: Path) -> dict[str, str]:
    """Return this process's environment with the stand-ins that are needed, behind all else.

    The libraries are set to have no hub: they would try to reach it, for minutes.
    """
    _write(folder)
    path = [os.environ.get("PYTHONPATH", ""), str(folder)]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**os.environ, **offline, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if find_spec("polars") is None:
        package = folder / "polars"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(POLARS, "utf-8")
        (package / "exceptions.py").write_text(ERRORS, "utf-8")
    try:
        version("swaprec")
    except PackageNotFoundError:
        about = folder / "swaprec-0.0.0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(METADATA, "utf-8")
