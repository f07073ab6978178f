"""One TOML file, one run.

Every problem of a file is reported at once, a misspelled key with the nearest name.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.config import (
    AdapterTables,
    BackboneSource,
    ConfigSection,
    DataConfig,
    RunConfig,
    TrainConfig,
    WhereConfig,
)
from transrec.adapters import AdapterSpec, SpecError


class ConfigError(ValueError):
    """A run that cannot start as configured; `problems` lists everything wrong with the file."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(f"{source}: " + "; ".join(problems))
        self.source = source
        self.problems = list(problems)


def load_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a run from a TOML file, or from the `config.json` of another run.

    Relative paths start at the file's folder, those of overrides where you stand.

    Args:
        path: the file.
        overrides: `section.key=value`, the value in TOML or, where it is none, a string.

    Raises:
        ConfigError: with every problem of file and overrides.
    """
    try:
        text = path.read_text("utf-8-sig")
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(str(path), ["there is no such file"]) from error
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError(
            str(path), [f"not {path.suffix.removeprefix('.').upper() or 'TOML'}: {error}"]
        ) from error
    anchor(raw, path.parent)
    changes: dict[str, Any] = {}
    for override in overrides:
        set_key(changes, override, str(path))
    anchor(changes, Path.cwd())
    return parse_config(merged(raw, changes), str(path))


def parse_config(raw: Mapping[str, Any], source: str = "configuration") -> RunConfig:
    """Check plain data.

    Raises:
        ConfigError: with every problem.
    """
    problems: list[str] = []
    adapter = raw.get("adapter", {})
    if isinstance(adapter, Mapping):
        try:
            AdapterSpec.parse(adapter)
        except SpecError as error:
            problems += [f"adapter.{problem}" for problem in error.problems]
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        known = (
            error.errors()
            if not problems
            else [problem for problem in error.errors() if problem["loc"][:1] != ("adapter",)]
        )
        raise ConfigError(source, [_worded(detail) for detail in known] + problems) from error
    if problems:
        raise ConfigError(source, problems)
    return config


def _worded(detail: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        says = str(detail["msg"]).removeprefix("Value error, ")
        if detail["type"] == "model_type":
            says = f"expected a table of settings, got {detail['input']!r}"
        return f"{place}: {says}" if place else says
    known = _keys_at(detail["loc"][:-1])
    near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    return f"{place}: unknown key, {hint}"


def _keys_at(place: Sequence[Any]) -> list[str]:
    tables: dict[str, type[ConfigSection]] = {
        "data": DataConfig,
        "data.where": WhereConfig,
        "backbone": BackboneSource,
        "train": TrainConfig,
        "adapter": AdapterTables,
    }
    return list(tables.get(".".join(map(str, place)), RunConfig).model_fields)


_ENCODERS = ("encoder", "image_encoder")


def anchor(raw: dict[str, Any], base: Path) -> None:
    """Make relative paths of plain data absolute;
    an encoder is a path only where a folder of that name exists.
    """
    for table, key in (
        ("", "output"),
        ("data", "folder"),
        ("data", "images"),
        *(("backbone", key) for key in ("folder", *_ENCODERS)),
    ):
        section = raw.get(table) if table else raw
        if (
            not isinstance(section, dict)
            or not isinstance(section.get(key), str)
            or not section[key]
        ):
            continue
        given = _expanded(section[key])
        if key not in _ENCODERS or (base / given).is_dir():
            section[key] = str((base / given).resolve())


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user: the folder is then reported as missing
        return Path(path)


def set_key(raw: dict[str, Any], override: str, source: str) -> None:
    """Set one `table.key=value` in plain data; the value is TOML or, where it is none, a string.

    Raises:
        ConfigError: it is no such assignment.
    """
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise ConfigError(
            source, [f"override {override!r}: expected key=value, for example train.epochs=5"]
        )
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *tables, key = name.split(".")
    for table in tables:
        raw = raw.setdefault(table, {})
        if not isinstance(raw, dict):
            raise ConfigError(
                source, [f"override {override!r}: {table} was set to a single value before"]
            )
    raw[key] = parsed


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data with changes put over it, table by table."""
    both = dict(base)
    for key, value in changes.items():
        old = both.get(key)
        both[key] = (
            merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return both
