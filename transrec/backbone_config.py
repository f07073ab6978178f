"""The sizes of a backbone, as `config.json` holds them.

They fix its modules, and what an adapter must fit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

from transrec.adapters import AdapterShape, SideShape, user_side
from transrec.errors import BackboneError
from transrec.image_encoder import ImageEncoder, ImageShape
from transrec.images import Preprocessing
from transrec.item_encoder import Pooling
from transrec.model import TransRec
from transrec.seam import LINEARS, MODALITIES, Modality
from transrec.text_encoder import Architecture, TextEncoder, TextShape
from transrec.user_encoder import UserShape

FORMAT = 1


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """What `config.json` holds: everything but the weights and the tokenizer.

    A backbone reads texts, images, or both: the shapes that are there say which. `pooling` is the
    text encoder's. `max_tokens` is one limit, or one for each attribute of a text.
    """

    text: TextShape | None
    user: UserShape
    pooling: Pooling = "cls"
    max_tokens: int | tuple[int, ...] = 30
    source: str = ""
    loss: str = "none"
    image: ImageShape | None = None
    image_pooling: Pooling = "cls"

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What it reads of an item."""
        return tuple(modality for modality in MODALITIES if getattr(self, modality) is not None)

    @property
    def width(self) -> int:
        """Width d of item and user vectors."""
        return self.user.width

    @property
    def max_history(self) -> int:
        """Newest items of a history that the user encoder sees, L."""
        return self.user.history

    @classmethod
    def parse(cls, value: dict[str, Any]) -> BackboneConfig:
        """Read a config from JSON.

        Raises:
            BackboneError: another format, an unknown architecture, or missing fields.
        """
        value = dict(value)
        found = value.pop("format", None)
        if found != FORMAT:
            raise BackboneError(
                f"backbone format {found!r}: this version of swaprec reads format {FORMAT}"
            )
        value.pop("modality", None)  # of the first releases, which read texts only
        try:
            text = value.pop("text")
            image = value.pop("image", None)
            if isinstance(value.get("max_tokens"), list):
                value["max_tokens"] = tuple(value["max_tokens"])
            config = cls(
                text=text and TextShape(**text),
                image=image and _image_shape(image),
                user=UserShape(**value.pop("user")),
                **value,
            )
        except (KeyError, TypeError) as error:
            raise BackboneError(f"config.json is not a backbone's: {error}") from error
        config.check()
        return config

    def check(self) -> None:
        """Check what was read.

        Raises:
            BackboneError: an unknown architecture or pooling, or nothing that it reads.
        """
        if not self.modalities:
            raise BackboneError("config.json is not a backbone's: it has neither text nor image")
        architecture = self.text.architecture if self.text is not None else "bert"
        poolings = {self.pooling, self.image_pooling}
        if architecture not in get_args(Architecture) or not poolings <= set(get_args(Pooling)):
            raise BackboneError(
                f"architecture {architecture!r} with pooling {self.pooling!r}: expected one of "
                f"{get_args(Architecture)} with one of {get_args(Pooling)}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that `parse` reads back."""
        return {"format": FORMAT, **asdict(self)}


def adapter_shape(config: BackboneConfig) -> AdapterShape:
    """Return the sizes that an adapter must fit."""
    width = config.user.width
    items = []
    for modality in config.modalities:
        shape = config.text if modality == "text" else config.image
        assert shape is not None  # noqa: S101 - it is one of the modalities
        side = SideShape(
            "item", shape.layers, shape.hidden, shape.intermediate, width, _biased(shape), modality
        )
        items.append(side)
    return AdapterShape(tuple(items), user_side(config.user.blocks, width, config.user.history))


def _biased(shape: TextShape | ImageShape) -> tuple[str, ...]:
    without = isinstance(shape, ImageShape) and not shape.qkv_bias
    return tuple(name for name in LINEARS if not (without and name in ("query", "key", "value")))


def build(config: BackboneConfig) -> TransRec:
    """Build the modules of a config with weights drawn as torch does."""
    text = TextEncoder(config.text, config.pooling) if config.text is not None else None
    image = ImageEncoder(config.image, config.image_pooling) if config.image is not None else None
    return TransRec(text, image, config.user)


def _image_shape(value: dict[str, Any]) -> ImageShape:
    given: dict[str, Any] = {**value["preprocessing"]}
    given |= {name: tuple(given[name]) for name in ("mean", "std")}
    return ImageShape(**{**value, "preprocessing": Preprocessing(**given)})
