"""The settings of a run: the tables of its file, their defaults, and what their values may be."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from training.importers.columns import check_mapping
from training.names import LogFormat
from training.times import check_form
from transrec.adapters import AdapterSpec


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
