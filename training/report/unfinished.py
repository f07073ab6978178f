"""Runs that have no result: how far each came, from what it left in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULT = "result.json"
CONFIG = "config.json"
METRICS = "metrics.jsonl"
LOG = "log.txt"
MAX_REASON = 300
TAIL_BYTES = 65_536


def read_result(folder: Path) -> dict[str, Any]:
    """Return what a finished run wrote."""
    found: dict[str, Any] = json.loads((folder / RESULT).read_text("utf-8"))
    return found


def runs_below(folder: Path) -> list[Path]:
    """Return the folders of all runs below a folder, finished or not."""
    found = {path.parent for path in folder.rglob(RESULT)}
    found |= {path.parent for path in folder.rglob(CONFIG) if _is_run(path)}
    return sorted(found)


def how_far(folder: Path, name: str) -> str:
    """Say how far an unfinished run came; empty for a finished one."""
    if (folder / RESULT).is_file():
        return ""
    config = _read(folder / CONFIG)
    reason = _reason(folder / LOG)
    if config is None:
        return f"{name} did not begin: {reason}" if reason else f"{name} has not begun"
    epochs = config.get("train", {}).get("epochs", "?")
    came = f"{_epochs_done(folder / METRICS)} of {epochs} epochs"
    return f"{name} failed after {came}: {reason}" if reason else f"{name} is not finished: {came}"


def _is_run(path: Path) -> bool:
    """Whether a `config.json` is a run's: a backbone's folder has one, too."""
    config = _read(path)
    return config is not None and {"stage", "output", "train"} <= set(config)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _epochs_done(path: Path) -> int:
    lines = _tail(path)
    for line in reversed(lines):
        try:
            return int(json.loads(line)["epoch"])
        except (ValueError, KeyError, TypeError):
            continue  # torn by a kill
    return 0


def _reason(log: Path) -> str:
    """Return the error with which a run of an experiment ended last, if it did."""
    lines = _tail(log)
    errors = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    # Progress after an error is a later attempt, which said nothing of how it ended.
    if not errors or any(": epoch " in line for line in lines[errors[-1] + 1 :]):
        return ""
    return lines[errors[-1]].removeprefix("error: ")[:MAX_REASON]


def _tail(path: Path) -> list[str]:
    """Return the last lines of a file that may be long or absent."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
