"""One TOML file, one run.

Every problem of a file is reported at once, a misspelled key with the nearest name.
"""

from __future__ import annotations

import difflib
import json
import string
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from training.importers.columns import check_mapping
from training.names import LogFormat
from training.times import check_form
from transrec.adapters import AdapterSpec, SpecError


class ConfigError(ValueError):
    """A run that cannot start as configured; `problems` lists everything wrong with the file."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(f"{source}: " + "; ".join(problems))
        self.source = source
        self.problems = list(problems)


class ConfigSection(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WhereConfig(ConfigSection):
    """Which items take part: by the words of one column, or one of several disjoint parts of the
    catalog.

    Which part an item is in depends on its id alone.
    """

    column: str = "title"
    any: list[str] = []
    none: list[str] = []
    part: int = Field(1, ge=1)
    parts: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _one_of_the_parts(self) -> WhereConfig:
        if self.part > self.parts:
            raise ValueError(f"part {self.part} of {self.parts}: expected 1 to {self.parts}")
        return self


class DataConfig(ConfigSection):
    """Where the interaction log lies and how its items become texts."""

    folder: Path
    format: LogFormat = "canonical"
    text: str | list[str] = "{title}"
    images: Path | None = None
    where: WhereConfig | None = None
    min_interactions: int = Field(5, ge=3)
    users: int = Field(0, ge=0)
    columns: dict[str, str] = {}
    time_format: str = ""
    keep_duplicates: bool = False

    @field_validator("columns")
    @classmethod
    def _names_each_column_once(cls, given: dict[str, str]) -> dict[str, str]:
        check_mapping(given)
        return given

    @field_validator("time_format")
    @classmethod
    def _is_a_form_of_dates(cls, given: str) -> str:
        if given:
            check_form(given)
        return given

    @model_validator(mode="after")
    def _has_something_to_read(self) -> DataConfig:
        if not self.text and self.images is None:
            raise ValueError('text "" and no images: there is nothing to read of an item')
        return self

    @field_validator("text")
    @classmethod
    def _names_columns(cls, given: str | list[str]) -> str | list[str]:
        if isinstance(given, list):
            if not given or not all(given):
                raise ValueError('expected templates such as ["{title}", "{abstract}"]')
            for template in given:
                _check_template(template)
        elif given:
            _check_template(given)
        return given


def _check_template(template: str) -> None:
    """Check a template of column names.

    Raises:
        ValueError: it is none, or names no column.
    """
    try:
        fields = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(
            f"{template!r} is no template such as {{title}} ({{year}}): {error}"
        ) from error
    if not fields:
        raise ValueError(
            f"{template!r} names no column: all items would have one text; expected {{title}}"
        )
    for _, name, form, turned in fields:
        if not name or name.isdigit() or form or turned or set(name) & set(".["):
            raise ValueError(
                f"{template!r}: expected plain column names in braces, such as {{title}}"
            )


class BackboneSource(ConfigSection):
    """A backbone folder to adapt, or encoder checkpoints
    to pretrain from: of texts, of images, or both.
    """

    folder: Path | None = None
    encoder: str | None = None
    image_encoder: str | None = None
    from_scratch: bool = False
    encoder_layers: int = Field(0, ge=0)
    pooling: Literal["cls", "mean"] = "cls"
    image_pooling: Literal["cls", "mean"] = "cls"
    width: int = Field(64, ge=2)
    max_history: int = Field(20, ge=1)
    max_tokens: Annotated[int, Field(ge=3)] | list[Annotated[int, Field(ge=3)]] = 30
    heads: int = Field(2, ge=1)
    blocks: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> BackboneSource:
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} cannot be shared by {self.heads} heads: give a multiple of"
                " them"
            )
        return self


class AdapterTables(ConfigSection):
    """The adapter's spec as the file gives it."""

    item: dict[str, Any] = {}
    user: dict[str, Any] = {}


class TrainConfig(ConfigSection):
    """How it trains.

    The defaults are what was measured to work; the paper's recipe is in the example files.
    """

    loss: Literal["bce", "cpc", "in_batch_debiased", "full_softmax"] = "in_batch_debiased"
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False)
    encoder_lr: float = Field(5e-5, gt=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(20, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    windows: Literal["last", "all"] = "last"
    train_encoder: bool = False
    evaluate_every: int = Field(1, ge=1)
    patience: int = Field(0, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False
    cache: Literal["float16", "float32"] = "float16"
    cache_folder: Path | None = None
    track: Literal["", "tensorboard", "mlflow"] = ""
    embed_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(0, ge=0)


class RunConfig(ConfigSection):
    """A whole run."""

    stage: Literal["pretrain", "adapt", "finetune", "ids"]
    output: Path
    data: DataConfig
    backbone: BackboneSource = BackboneSource()
    domain: str = Field("source", pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    seed: int = Field(0, ge=0, lt=2**32)
    adapter: AdapterTables = AdapterTables()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _needs_its_backbone(self) -> RunConfig:
        if not self.output.name:
            raise ValueError("output: expected a folder, got nothing")
        if self.stage in {"adapt", "finetune"} and self.backbone.folder is None:
            raise ValueError(
                f"backbone.folder: stage {self.stage} needs the folder that a pretraining wrote"
            )
        if (
            self.stage == "pretrain"
            and self.backbone.encoder is None
            and self.backbone.image_encoder is None
        ):
            raise ValueError(
                "backbone.encoder: stage pretrain needs the name or folder of a checkpoint, here or"
                " as image_encoder"
            )
        if self.stage == "pretrain":
            self._reads_what_is_there()
        return self

    def _reads_what_is_there(self) -> None:
        for key, encoder, source in (
            ("text", self.backbone.encoder, self.data.text),
            ("images", self.backbone.image_encoder, self.data.images),
        ):
            if (encoder is None) != (not source):
                what = "nobody reads it" if source else "there is nothing to read"
                which = "image_encoder" if key == "images" else "encoder"
                raise ValueError(f"data.{key} and backbone.{which} belong together: {what}")

    @model_validator(mode="after")
    def _limits_for_each_attribute(self) -> RunConfig:
        limits = self.backbone.max_tokens
        texts = len(self.data.text) if isinstance(self.data.text, list) else 1
        if (
            self.stage == "pretrain"
            and texts > 1
            and (not isinstance(limits, list) or len(limits) != texts)
        ):
            raise ValueError(
                f"backbone.max_tokens: data.text has {texts} attributes, give a limit for each of"
                " them"
            )
        return self

    @property
    def spec(self) -> AdapterSpec:
        """The adapter's spec; `parse_config` has checked it."""
        return AdapterSpec.parse(self.adapter.model_dump())


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
