"""Results on disk -> sections (one an experiment) of rows (one a combination, over its seeds)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

EXPERIMENT, RESULT = "experiment.json", "result.json"
BASELINES = ("none", "popularity", "recent_popularity", "item_knn")
TPME = (0.45, 0.10, 0.45)
"""Weights of time, parameters and memory in TPME (Fu et al. 2024, IISAN)."""


@dataclass(slots=True)
class Row:
    """One combination. `panel` is what it is compared within, `name` what it is compared as."""

    panel: str
    name: str
    results: list[dict[str, Any]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    tpme: float | None = None

    def mean(self, *path: str) -> float:
        """Return the mean over the seeds of a number, by its keys."""
        return fmean(_at(result, path) for result in self.results)

    @property
    def hr(self) -> tuple[float, float, float]:
        """HR@10 and the ends of its 95 % interval over users, each the mean over the seeds."""
        return self.mean("test", "hr"), self.mean("test", "hr_low"), self.mean("test", "hr_high")

    @property
    def parameters(self) -> int:
        """How many numbers train."""
        return int(self.results[0]["parameters"]["total"])

    @property
    def memory(self) -> float:
        """Peak memory above what the process held before, in MB."""
        return self.mean("peak_memory_mb") - fmean(result.get("memory_floor_mb", 0.0) for result in self.results)

    @property
    def seeds(self) -> list[float]:
        """HR@10 of each seed, in the order of the seeds."""
        return [result["test"]["hr"] for result in sorted(self.results, key=lambda result: result["seed"])]


@dataclass(slots=True)
class Section:
    """An experiment, or the runs of a folder that are of none."""

    title: str
    question: str
    command: str
    rows: list[Row]

    @property
    def panels(self) -> dict[str, list[Row]]:
        """Rows by panel, in the order of the file."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.panel, []).append(row)
        return found


def baselines(rows: Sequence[Row]) -> dict[str, tuple[float, float, float]]:
    """HR@10 and interval of each baseline that the rows of a panel have in common."""
    return {name: values[0] for name, values in _measured(rows).items() if len(set(values)) == 1}


def own_baselines(rows: Sequence[Row]) -> dict[str, tuple[float, float, float]]:
    """HR@10 and interval of baselines that differ from row to row, as `none` does where each row has its own source."""
    return {
        f"{name} of {row.name}": _measured([row])[name][0]
        for name, values in _measured(rows).items()
        if len(set(values)) > 1
        for row in rows
        if name in _measured([row])
    }


def _measured(rows: Sequence[Row]) -> dict[str, list[tuple[float, float, float]]]:
    """List what the first run of each row says of a baseline: other seeds may have other sources."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        for name in BASELINES:
            test = row.results[0]["baselines"].get(name)
            if test is not None:
                found.setdefault(name, []).append((test["hr"], test["hr_low"], test["hr_high"]))
    return found


def collect(folders: Sequence[Path]) -> list[Section]:
    """Read every result below folders.

    Raises:
        FileNotFoundError: there is none.
    """
    sections: list[Section] = []
    for folder in folders:
        experiments = sorted(path.parent for path in folder.rglob(EXPERIMENT))
        sections += [_experiment(path) for path in experiments]
        alone = [
            path for path in sorted(folder.rglob(RESULT)) if not any(path.is_relative_to(one) for one in experiments)
        ]
        if alone:
            sections.append(_loose(folder, alone))
    sections = [section for section in sections if section.rows]
    if not sections:
        names = ", ".join(map(str, folders))
        raise FileNotFoundError(f"no {RESULT} below {names}: swaprec train and swaprec experiment write them")
    for section in sections:
        for rows in section.panels.values():
            _rate(rows)
    return sections


def _experiment(folder: Path) -> Section:
    described = json.loads((folder / EXPERIMENT).read_text("utf-8"))
    rows: dict[tuple[str, str], Row] = {}
    for run in described["runs"]:
        *panel, name = run["choices"].values()
        _add(rows, ", ".join(panel), name, folder / run["name"])
    for path in sorted((folder / "trials").glob(f"*/{RESULT}")):
        _add(rows, "trials", path.parent.name, path.parent)
    return Section(described["title"], described["question"], described["command"], list(rows.values()))


def _loose(folder: Path, paths: Sequence[Path]) -> Section:
    rows: dict[tuple[str, str], Row] = {}
    for path in paths:
        result = json.loads(path.read_text("utf-8"))
        _add(rows, str(result["domain"]), f"{path.parent.name}", path.parent)
    return Section(folder.resolve().name, "", "", list(rows.values()))


def _add(rows: dict[tuple[str, str], Row], panel: str, name: str, folder: Path) -> None:
    """Add a run to its row, if it has finished."""
    if not (folder / RESULT).is_file():
        return
    row = rows.setdefault((panel, name), Row(panel, name))
    row.results.append(json.loads((folder / RESULT).read_text("utf-8")))
    row.commands.append(f"swaprec train {folder.name}/config.json")


def _rate(rows: Sequence[Row]) -> None:
    """Set TPME of the rows of a panel: each measure min-max normalised over them, so it needs two rows."""
    measures = [[row.mean("seconds_an_epoch"), float(row.parameters), row.memory] for row in rows if _timed(row)]
    if len(measures) < 2:  # noqa: PLR2004 - there is nothing to compare
        return
    lows, highs = [min(column) for column in zip(*measures, strict=True)], [max(c) for c in zip(*measures, strict=True)]
    for row, values in zip([row for row in rows if _timed(row)], measures, strict=True):
        parts = [(value - low) / (high - low or 1) for value, low, high in zip(values, lows, highs, strict=True)]
        row.tpme = sum(weight * part for weight, part in zip(TPME, parts, strict=True))


def _timed(row: Row) -> bool:
    return all("seconds_an_epoch" in result for result in row.results)


def _at(value: Mapping[str, Any], path: Sequence[str]) -> float:
    for key in path:
        value = value[key]
    return float(value)  # type: ignore[arg-type]
