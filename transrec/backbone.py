"""A backbone: a pretrained, frozen TransRec in a folder, known by the fingerprint of its content.

The folder holds `config.json`, `model.safetensors` and, where it reads texts, `tokenizer.json`.
Nothing else is read, and nothing in it is executed.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor

from transrec.adapters import AdapterShape, SideShape, user_side
from transrec.checkpoints import read_text_encoder
from transrec.content import BETWEEN, Content
from transrec.coverage import unknown_id, unknown_share
from transrec.errors import BackboneError, ContentError
from transrec.image_checkpoints import read_image_encoder
from transrec.image_encoder import ImageEncoder, ImageShape
from transrec.images import Preprocessing
from transrec.inputs import AttributeInputs, ImageInputs, Inputs, PairInputs, TextInputs
from transrec.item_encoder import Pooling
from transrec.model import AnyEncoder, TransRec, draw
from transrec.seam import LINEARS, MODALITIES, Modality
from transrec.shapes import undrawn
from transrec.text_encoder import Architecture, TextEncoder, TextShape
from transrec.user_encoder import UserShape

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
ALIGNMENT = 64
"""Bytes, of what torch allocates."""
Dtype = Literal["float32", "bfloat16"]
TORCH_DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


class Backbone:
    """A TransRec, its tokenizer and its fingerprint, loaded once and never changed.

    `fingerprint` is empty for a backbone that was not saved yet: no bundle can name it.
    """

    def __init__(
        self,
        config: BackboneConfig,
        model: TransRec,
        tokenizer: Tokenizer | None,
        *,
        fingerprint: str = "",
        name: str = "",
    ) -> None:
        self.config = config
        self.model = model.requires_grad_(requires_grad=False).eval()
        self.tokenizer = tokenizer
        limits = config.max_tokens if isinstance(config.max_tokens, tuple) else (config.max_tokens,)
        self._tokenizers = (
            [] if tokenizer is None else [_cutting(tokenizer, limit) for limit in limits]
        )
        self.fingerprint = fingerprint
        self.name = name
        self._casts: dict[torch.dtype, AnyEncoder] = {}
        self._cast_lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> Backbone:
        """Read a backbone folder onto a device, frozen.

        Raises:
            BackboneError: a missing or damaged file, or weights that do not fit the config.
        """
        folder = Path(folder)
        missing = [name for name in files_of(folder) if not (folder / name).is_file()]
        if missing:
            raise BackboneError(
                f"{folder} is not a backbone folder: {', '.join(missing)} missing "
                '(`swaprec train` with stage = "pretrain" writes one)'
            )
        try:
            config = BackboneConfig.parse(json.loads((folder / CONFIG).read_text("utf-8")))
            tokenizer = (
                Tokenizer.from_file(str(folder / TOKENIZER)) if config.text is not None else None
            )
            model = _loaded(config, load_file(folder / WEIGHTS))
        except (SafetensorError, RuntimeError, json.JSONDecodeError) as error:
            raise BackboneError(f"{folder}: {str(error).splitlines()[0]}") from error
        return cls(
            config,
            model.to(resolve_device(device)),
            tokenizer,
            fingerprint=fingerprint_of(folder),
            name=folder.name,
        )

    @classmethod
    def from_encoder(
        cls,
        text: str | None = None,
        image: str | None = None,
        *,
        pooling: Pooling = "cls",
        image_pooling: Pooling = "cls",
        user: UserShape | None = None,
        max_tokens: int | tuple[int, ...] = 30,
        from_scratch: bool = False,
        layers: int = 0,
        seed: int = 0,
        device: str = "auto",
    ) -> Backbone:
        """Start a backbone from checkpoints: their encoders, a fresh projection and user encoder.

        Args:
            text: name or folder of a BERT or RoBERTa checkpoint.
            image: name or folder of a Vision Transformer checkpoint; with both, items have a text
                and an image.
            pooling: of the text encoder.
            image_pooling: of the image encoder.
            user: sizes of the user encoder.
            max_tokens: of a text.
            from_scratch: take the checkpoints' sizes and tokenizer, and draw the weights.
            layers: keep so many of the lowest layers of each encoder; 0 keeps all.
            seed: of what is drawn.
            device: where it goes.

        Raises:
            BackboneError: no such checkpoint, or one of another architecture.
        """
        text_shape, text_state, tokenizer = (
            read_text_encoder(text) if text is not None else (None, {}, None)
        )
        image_shape, image_state = read_image_encoder(image) if image is not None else (None, {})
        text_shape, text_state = _lowest(text_shape, text_state, layers)
        image_shape, image_state = _lowest(image_shape, image_state, layers)
        source = "+".join(Path(name).name for name in (text, image) if name is not None)
        config = BackboneConfig(
            text_shape,
            user or UserShape(),
            pooling,
            max_tokens,
            source,
            "none",
            image_shape,
            image_pooling,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build(config)
            if from_scratch:
                draw(model.item_encoder)
        if not from_scratch:
            for encoder, state in (
                (model.text_encoder, text_state),
                (model.image_encoder, image_state),
            ):
                if encoder is not None:
                    encoder.load_state_dict(state)
        return cls(config, model.to(resolve_device(device)), tokenizer)

    def save(self, folder: Path | str) -> str:
        """Write the backbone folder beside its place and rename it in; return its fingerprint.

        Raises:
            FileExistsError: the folder exists and holds another backbone.
        """
        folder = Path(folder)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            (temporary / CONFIG).write_text(
                json.dumps(self.config.to_json(), indent=1, sort_keys=True), "utf-8"
            )
            if self.tokenizer is not None:
                self.tokenizer.save(str(temporary / TOKENIZER), pretty=False)
            state = {
                name: value.detach().cpu().contiguous()
                for name, value in self.model.state_dict().items()
            }
            _save(state, temporary / WEIGHTS)
            fingerprint = fingerprint_of(temporary)
            if not (folder.is_dir() and _holds(folder, fingerprint)):
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.fingerprint = fingerprint
        self.name = folder.name
        return fingerprint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.projection.weight.device

    @property
    def shape(self) -> AdapterShape:
        """The sizes that an adapter must fit."""
        return adapter_shape(self.config)

    @property
    def parameters_total(self) -> int:
        """Parameters of the whole TransRec, what full fine-tuning would train."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def reads_one_text(self) -> bool:
        """Whether an item is one text to it: no picture, no attributes."""
        return self.config.modalities == ("text",) and len(self._tokenizers) == 1

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with its special tokens,
        cut to `max_tokens`, not padded; of one attribute.
        """
        return _ids(self._tokenizers[0], texts)

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return which share of the tokens of texts its
        tokenizer does not know; 0 where it reads no texts.
        """
        if self.tokenizer is None:
            return 0.0
        return unknown_share(self.tokenizer, self._unknown_id, texts)

    @functools.cached_property
    def _unknown_id(self) -> int | None:
        return None if self.tokenizer is None else unknown_id(self.tokenizer)

    def _text_inputs(self, texts: Sequence[str]) -> TextInputs | AttributeInputs:
        if len(self._tokenizers) == 1:
            return TextInputs(self.tokenize(texts))
        split = [text.split(BETWEEN) for text in texts]
        attributes = []
        for number, tokenizer in enumerate(self._tokenizers):
            there = [row[number].strip() if number < len(row) else "" for row in split]
            attributes.append(
                [
                    ids if text else []
                    for ids, text in zip(_ids(tokenizer, there), there, strict=True)
                ]
            )
        return AttributeInputs(attributes)

    def inputs(self, contents: Sequence[Content]) -> Inputs:
        """Return what contents are to the item encoder.

        What it does not read of them is left out.
        """
        texts = (
            self._text_inputs([content.text for content in contents]) if self.config.text else None
        )
        images = ImageInputs(contents, self.config.image) if self.config.image else None
        if texts is not None and images is not None:
            return PairInputs(texts, images, contents)
        found = texts or images
        assert found is not None  # noqa: S101 - the config was checked
        return found

    def read(self, content: Content) -> Content:
        """Return what of a content the item encoder reads; its key names the vector.

        Raises:
            ContentError: it has nothing of that.
        """
        read = Content(
            content.text if self.config.text is not None else "",
            content.image if self.config.image is not None else None,
        )
        self.check_attributes(read.text)
        if not read.text and read.image is None:
            raise ContentError(
                f"it has no {' and no '.join(self.config.modalities)}: the backbone reads nothing"
                " else"
            )
        return read

    def check_attributes(self, text: str) -> None:
        """Check that a text has no more attributes than are read.

        Raises:
            ContentError: it has.
        """
        found = text.count(BETWEEN) + 1
        read = max(1, len(self._tokenizers))
        if found > read:
            raise ContentError(f"text: it has {found} attributes, the backbone reads {read}")

    def changed(self) -> None:
        """Forget copies of the weights: they were trained meanwhile."""
        with self._cast_lock:
            self._casts.clear()

    def item_encoder(self, dtype: Dtype) -> AnyEncoder:
        """Return the item encoder in a dtype; a copy in bfloat16 is made once and kept."""
        wanted = TORCH_DTYPES[dtype]
        if wanted == self.model.projection.weight.dtype:
            return self.model.item_encoder
        with self._cast_lock:
            if wanted not in self._casts:
                self._casts[wanted] = copy.deepcopy(self.model.item_encoder).to(wanted)
            return self._casts[wanted]


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


def _cutting(tokenizer: Tokenizer, limit: int) -> Tokenizer:
    """Return a tokenizer that cuts at a limit; where limits differ each has its own."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(limit)
    return own


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def build(config: BackboneConfig) -> TransRec:
    """Build the modules of a config with weights drawn as torch does."""
    text = TextEncoder(config.text, config.pooling) if config.text is not None else None
    image = ImageEncoder(config.image, config.image_pooling) if config.image is not None else None
    return TransRec(text, image, config.user)


def _loaded(config: BackboneConfig, state: dict[str, Tensor]) -> TransRec:
    """Build the modules without drawing or even allocating weights:
    loading assigns them, mapped from their file.
    """
    with undrawn():
        model = build(config)
    model.load_state_dict({name: _aligned(value) for name, value in state.items()}, assign=True)
    return model


def _aligned(weights: Tensor) -> Tensor:
    """Return weights as torch's own memory lies:
    kernels of some processors round by alignment, in the last bit.
    """
    return weights if weights.data_ptr() % ALIGNMENT == 0 else weights.clone()


def _save(state: dict[str, Tensor], path: Path) -> None:
    """Write weights so that they are aligned where they are mapped;
    safetensors lets a header end with spaces.
    """
    content = save(state)
    length = int.from_bytes(content[:8], "little")
    spaces = -(8 + length) % ALIGNMENT
    with path.open("wb") as file:
        file.write(
            (length + spaces).to_bytes(8, "little") + content[8 : 8 + length] + b" " * spaces
        )
        file.write(memoryview(content)[8 + length :])


def _image_shape(value: dict[str, Any]) -> ImageShape:
    given: dict[str, Any] = {**value["preprocessing"]}
    given |= {name: tuple(given[name]) for name in ("mean", "std")}
    return ImageShape(**{**value, "preprocessing": Preprocessing(**given)})


def files_of(folder: Path) -> tuple[str, ...]:
    """Name the files that the folder's backbone consists of."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        images_only = config.get("image") is not None and config.get("text") is None
    except (OSError, ValueError, AttributeError):
        images_only = False
    return (CONFIG, WEIGHTS) if images_only else (CONFIG, WEIGHTS, TOKENIZER)


def _holds(folder: Path, fingerprint: str) -> bool:
    whole = all((folder / name).is_file() for name in files_of(folder))
    found = fingerprint_of(folder) if whole else "nothing of ours"
    if found != fingerprint:
        raise FileExistsError(
            f"{folder} exists and holds {found[:12]}; move it away or choose another folder"
        )
    return True


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over the files of a backbone folder, 64 hex digits."""
    total = hashlib.sha256()
    for name in files_of(folder):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


_Shape = TypeVar("_Shape", TextShape, ImageShape)


def _lowest(
    shape: _Shape | None, state: dict[str, Tensor], layers: int
) -> tuple[_Shape | None, dict[str, Tensor]]:
    """Keep the lowest layers of a checkpoint.

    Raises:
        BackboneError: it has fewer.
    """
    if shape is None or not layers:
        return shape, state
    if layers > shape.layers:
        raise BackboneError(f"encoder_layers {layers}: the checkpoint has {shape.layers}")
    above = tuple(f"blocks.{number}." for number in range(layers, shape.layers))
    return replace(shape, layers=layers), {
        name: value for name, value in state.items() if not name.startswith(above)
    }


def resolve_device(device: str) -> str:
    """`auto` is CUDA where torch finds one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(dtype: str, device: torch.device | str) -> Dtype:
    """`auto` is bfloat16 on CUDA and on CPUs with AMX, else float32.

    Raises:
        ValueError: another name.
    """
    if dtype in get_args(Dtype):
        return dtype  # type: ignore[return-value]
    if dtype != "auto":
        raise ValueError(f"dtype {dtype!r}: expected auto, float32 or bfloat16")
    fast = torch.device(device).type == "cuda" or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - the one name torch has for it
    return "bfloat16" if fast else "float32"
