"""Results on disk -> sections (one an experiment) of rows (one a combination, over its seeds)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

from training.figures import BASELINES, describe_report, format_baseline
from training.report.unfinished import CONFIG, RESULT, how_far, read_result, runs_below

EXPERIMENT = "experiment.json"
MAX_NAMED = 5
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
        return self.mean("peak_memory_mb") - fmean(
            result.get("memory_floor_mb", 0.0) for result in self.results
        )

    @property
    def seeds(self) -> list[float]:
        """HR@10 of each seed, in the order of the seeds."""
        return [
            result["test"]["hr"]
            for result in sorted(self.results, key=lambda result: result["seed"])
        ]


@dataclass(slots=True)
class Section:
    """An experiment, or the runs of a folder that are of none.

    `commands` are the lines that ran it, the first one first; `unfinished` says of each run without
    a result how far it came; `id` is unique within a report.
    """

    title: str
    question: str
    commands: list[str]
    rows: list[Row]
    unfinished: list[str] = field(default_factory=list)
    folder: Path = Path()
    id: str = ""

    @property
    def panels(self) -> dict[str, list[Row]]:
        """Rows by panel, in the order of the file."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.panel, []).append(row)
        return found


def measured_on(rows: Sequence[Row]) -> list[str]:
    """Return what the rows of a panel were measured on: one entry where they may be compared."""
    described = [
        describe_report({**result, "seed": None}) for row in rows for result in row.results
    ]
    return list(dict.fromkeys(described))


def baselines(rows: Sequence[Row]) -> dict[str, tuple[float, float, float]]:
    """HR@10 and interval of each baseline that the rows of a panel have in common."""
    return {name: values[0] for name, values in _measured(rows).items() if len(set(values)) == 1}


def own_baselines(rows: Sequence[Row]) -> dict[str, tuple[float, float, float]]:
    """HR@10 and interval of baselines that differ from row to row,
    as `none` does where each row has its own source.
    """
    return {
        f"{format_baseline(name)} of {row.name}": _measured([row])[name][0]
        for name, values in _measured(rows).items()
        if len(set(values)) > 1
        for row in rows
        if name in _measured([row])
    }


def _measured(rows: Sequence[Row]) -> dict[str, list[tuple[float, float, float]]]:
    """List what the first run of each row says of a baseline:
    other seeds may have other sources.
    """
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
    seen: list[Path] = []
    for folder in folders:
        experiments = [
            path.parent for path in sorted(folder.rglob(EXPERIMENT)) if not _is_below(path, seen)
        ]
        sections += [_experiment(path) for path in experiments]
        seen += experiments
        alone = [path for path in runs_below(folder) if not _is_below(path, seen)]
        if alone:
            sections.append(_loose(folder, alone))
            seen += alone
    if not any(section.rows for section in sections):
        names = ", ".join(map(str, folders))
        unfinished = "; ".join(
            line for section in sections for line in section.unfinished[:MAX_NAMED]
        )
        why = (
            f"unfinished are {unfinished}"
            if unfinished
            else "swaprec train and swaprec experiment write them"
        )
        raise FileNotFoundError(f"no {RESULT} below {names}: {why}")
    _make_distinct(sections)
    for section in sections:
        for rows in section.panels.values():
            _rate(rows)
    return sections


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def _make_distinct(sections: Sequence[Section]) -> None:
    """Give sections of one title their folders' names, and each an id of its own."""
    titles = Counter(section.title for section in sections)
    for section in sections:
        if titles[section.title] > 1:
            section.title = f"{section.title} ({section.folder.name})"
    taken: set[str] = set()
    for section in sections:
        first = slug(section.title)
        section.id = next(name for name in _numbered(first) if name not in taken)
        taken.add(section.id)


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name}-{number}"


def slug(text: str) -> str:
    """Make a file's name of a title."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48]


def _experiment(folder: Path) -> Section:
    described = json.loads((folder / EXPERIMENT).read_text("utf-8"))
    rows: dict[tuple[str, str], Row] = {}
    names = [f"sources/{name}" for name in described.get("sources", [])]
    for run in described["runs"]:
        *panel, name = run["choices"].values()
        _add(rows, ", ".join(panel), name, folder / run["name"])
        names.append(run["name"])
    for path in sorted((folder / "trials").glob(f"*/{CONFIG}")):
        _add(rows, "trials", path.parent.name, path.parent)
        names.append(f"trials/{path.parent.name}")
    # The runs of a search are its trials; what the file lists is only their base.
    if (folder / "search.db").exists():
        names = [name for name in names if (folder / name).is_dir()]
    lines = [how_far(folder / name, name) for name in names]
    commands = described.get("commands") or [described["command"]]
    return Section(
        described["title"],
        described["question"],
        commands,
        list(rows.values()),
        [line for line in lines if line],
        folder.resolve(),
    )


def _loose(folder: Path, runs: Sequence[Path]) -> Section:
    rows: dict[tuple[str, str], Row] = {}
    unfinished = []
    for run in runs:
        # By its path: two runs whose folders have one name are two runs, not two seeds of one.
        name = run.relative_to(folder).as_posix() if run != folder else folder.resolve().name
        line = how_far(run, name)
        if line:
            unfinished.append(line)
        else:
            _add(rows, str(read_result(run)["domain"]), name, run)
    return Section(folder.resolve().name, "", [], list(rows.values()), unfinished, folder.resolve())


def _add(rows: dict[tuple[str, str], Row], panel: str, name: str, folder: Path) -> None:
    """Add a run to its row, if it has finished."""
    if not (folder / RESULT).is_file():
        return
    row = rows.setdefault((panel, name), Row(panel, name))
    row.results.append(read_result(folder))
    row.commands.append(f"swaprec train {folder.name}/config.json")


def _rate(rows: Sequence[Row]) -> None:
    """Set TPME of the rows of a panel:
    each measure min-max normalised over them, so it needs two rows.
    """
    measures = [
        [row.mean("seconds_an_epoch"), float(row.parameters), row.memory]
        for row in rows
        if _timed(row)
    ]
    if len(measures) < 2:  # noqa: PLR2004 - there is nothing to compare
        return
    lows = [min(column) for column in zip(*measures, strict=True)]
    highs = [max(c) for c in zip(*measures, strict=True)]
    for row, values in zip([row for row in rows if _timed(row)], measures, strict=True):
        parts = [
            (value - low) / (high - low or 1)
            for value, low, high in zip(values, lows, highs, strict=True)
        ]
        row.tpme = sum(weight * part for weight, part in zip(TPME, parts, strict=True))


def _timed(row: Row) -> bool:
    return all("seconds_an_epoch" in result for result in row.results)


def _at(value: Mapping[str, Any], path: Sequence[str]) -> float:
    for key in path:
        value = value[key]
    return float(value)  # type: ignore[arg-type]
