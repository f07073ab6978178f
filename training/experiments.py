"""An experiment: one TOML file, many runs. Each run is the base, one choice of every axis, and a
seed.

`[sources.NAME]` are pretrainings that runs begin from (`source = "NAME"`), `[axes.AXIS.CHOICE]`
what varies. All runs are checked before the first begins.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import RunConfig
from training.names import packaged
from training.run_file import ConfigError, anchor, merged, parse_config, set_key

SOURCES = "sources"
CACHE = "cache"
UNSET = {"images", "encoder", "image_encoder"}
FROM_SOURCE = {"adapt", "finetune"}
KEYS = {"title", "question", "seeds", "base", "sources", "axes", "skip", "search"}


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of an experiment: what was chosen on each axis,
    and the pretraining that it needs, if any.
    """

    name: str
    choices: dict[str, str]
    config: RunConfig
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """Which keys of the first run are searched, between which whole numbers, and how often."""

    keys: dict[str, tuple[int, int]]
    trials: int
    within: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything that a file asks for."""

    title: str
    question: str
    sources: dict[str, Planned]
    runs: list[Planned]
    search: Search | None


def load_experiment(
    path: Path,
    data: Path,
    output: Path,
    overrides: Iterable[str] = (),
    only: Mapping[str, Sequence[str]] | None = None,
) -> Experiment:
    """Read an experiment and check all of its runs.

    Args:
        path: the file.
        data: where relative data folders start.
        output: folder for runs, sources and what they share.
        overrides: `key=value` on the file, such as `base.train.epochs=2` or `seeds=[0]`.
        only: choices to keep, by axis.

    Raises:
        ConfigError: with every problem of every run.
    """
    raw = _read(path, overrides)
    axes = {axis: dict(choices) for axis, choices in raw.get("axes", {}).items()}
    for axis, kept in (only or {}).items():
        unknown = sorted(set(kept) - set(axes.get(axis, {})))
        if unknown:
            known = ", ".join(axes.get(axis, axes))
            raise ConfigError(str(path), [f"{axis}={','.join(unknown)}: expected some of {known}"])
        axes[axis] = {name: axes[axis][name] for name in kept}
    reader = _Reader(str(path), raw, data, output)
    runs = [
        run
        for choices in _combinations(axes, raw.get("skip", []))
        for run in reader.runs(choices, axes)
    ]
    needed = {run.source for run in runs if run.source is not None}
    sources = {name: reader.source(name) for name in raw.get("sources", {}) if name in needed}
    search = reader.search()
    if reader.problems:
        raise ConfigError(str(path), reader.problems)
    found = [source for source in sources.values() if source is not None]
    planned = {source.name.removeprefix(f"{SOURCES}/"): source for source in found}
    title = raw.get("title", path.stem)
    return Experiment(title, raw.get("question", ""), planned, runs, search)


def _read(path: Path, overrides: Iterable[str]) -> dict[str, Any]:
    try:
        raw = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            str(path), [f"cannot be read: {error.strerror}; packaged are {', '.join(packaged())}"]
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"not TOML: {error}"]) from error
    for override in overrides:
        set_key(raw, override, str(path))
    unknown = sorted(set(raw) - KEYS)
    if unknown:
        raise ConfigError(
            str(path), [f"unknown keys {', '.join(unknown)}: expected {', '.join(sorted(KEYS))}"]
        )
    if not raw.get("axes"):
        raise ConfigError(
            str(path),
            ["axes: expected at least one axis with its choices, such as [axes.method.houlsby]"],
        )
    return raw


def _combinations(
    axes: Mapping[str, Mapping[str, Any]], skip: Sequence[Mapping[str, str]]
) -> Iterator[dict[str, str]]:
    """Yield one choice of each axis, but those that agree with an entry of `skip`."""
    for chosen in itertools.product(*axes.values()):
        choices = dict(zip(axes, chosen, strict=True))
        if not any(entry.items() <= choices.items() for entry in skip):
            yield choices


class _Reader:
    """Merges partial configurations into runs, and collects what is wrong with them."""

    def __init__(self, file: str, raw: Mapping[str, Any], data: Path, output: Path) -> None:
        self.problems: list[str] = []
        self._file = file
        self._raw = raw
        self._data = data
        self._output = output
        self._noted: set[str] = set()

    def runs(
        self, choices: Mapping[str, str], axes: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[Planned]:
        """Yield the runs of one combination, one a seed."""
        raw: dict[str, Any] = dict(self._raw.get("base", {}))
        for axis, choice in choices.items():
            raw = merged(raw, axes[axis][choice])
        seeds = raw.pop("seeds", self._raw.get("seeds", [0]))
        for seed in seeds:
            name = "-".join([*choices.values(), f"s{seed}"])
            planned = self._planned(name, dict(choices), {**raw, "seed": seed})
            if planned is not None:
                yield planned

    def source(self, name: str) -> Planned | None:
        """Return a pretraining."""
        raw = merged(self._raw.get("base", {}), {"stage": "pretrain", **self._raw["sources"][name]})
        return self._planned(f"{SOURCES}/{name}", {}, raw)

    def search(self) -> Search | None:
        """Return what is to be searched, if anything."""
        table = self._raw.get("search")
        if table is None:
            return None
        keys = table.get("keys", {})
        if not keys or not all(_is_range(ends) for ends in keys.values()):
            self.problems.append(
                'search.keys: expected ranges of whole numbers, such as {"adapter.item.hidden" ='
                " [4, 256]}"
            )
            return None
        spans = {key: (ends[0], ends[1]) for key, ends in keys.items()}
        return Search(spans, int(table.get("trials", 12)), float(table.get("within", 0.01)))

    def _planned(self, name: str, choices: dict[str, str], raw: dict[str, Any]) -> Planned | None:
        source = raw.pop("source", None) if raw.get("stage") in FROM_SOURCE else None
        raw.pop("source", None)
        if source is not None and source not in self._raw.get("sources", {}):
            self._note(
                f"{name}: source {source!r} is none of"
                f" {', '.join(self._raw.get('sources', {})) or 'the file'}"
            )
            return None
        if source is not None:
            raw["backbone"] = {"folder": str(self._output / SOURCES / source / "backbone")}
        elif raw.get("stage") == "ids":
            raw["backbone"] = {
                key: value for key, value in raw.get("backbone", {}).items() if "encoder" not in key
            }
        raw["output"] = str(self._output / name)
        raw["train"] = {"cache_folder": str(self._output / CACHE), **raw.get("train", {})}
        for key in ("encoder", "image_encoder"):
            given = raw.get("backbone", {}).get(key)
            if given and Path(given).is_dir():
                raw["backbone"] = {**raw["backbone"], key: str(Path(given).resolve())}
        raw |= {table: _without_false(raw.get(table, {})) for table in ("data", "backbone")}
        anchor(raw, self._data)
        try:
            return Planned(name, choices, parse_config(raw, self._file), source)
        except ConfigError as error:
            for problem in error.problems:
                self._note(f"{name}: {problem}")
            return None

    def _note(self, problem: str) -> None:
        """Note a problem once, however many seeds have it."""
        run, _, what = problem.partition(": ")
        key = f"{run.rpartition('-s')[0]}: {what}"
        if key not in self._noted:
            self._noted.add(key)
            self.problems.append(problem)


def _without_false(table: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what a choice takes away from the base with `false`: TOML knows no null."""
    return {key: value for key, value in table.items() if key not in UNSET or value is not False}


def _is_range(ends: object) -> bool:
    match ends:
        case [int(low), int(high)]:
            return 0 < low < high
    return False
