"""A backbone: a pretrained, frozen TransRec in a folder, known by the fingerprint of its content.

The folder holds `config.json`, `model.safetensors` and, where it reads texts, `tokenizer.json`.
Nothing else is read, and nothing in it is executed.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from transrec.adapters import AdapterShape
from transrec.backbone_config import BackboneConfig, adapter_shape, build
from transrec.backbone_folder import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    align,
    check_holds,
    files_of,
    fingerprint_of,
    save_weights,
)
from transrec.checkpoints import keep_lowest_layers, read_text_encoder
from transrec.content import BETWEEN, Content
from transrec.coverage import unknown_id, unknown_share
from transrec.devices import TORCH_DTYPES, Dtype, resolve_device
from transrec.errors import BackboneError, ContentError
from transrec.image_checkpoints import read_image_encoder
from transrec.inputs import AttributeInputs, ImageInputs, Inputs, PairInputs, TextInputs
from transrec.item_encoder import Pooling
from transrec.model import AnyEncoder, TransRec, draw
from transrec.shapes import undrawn
from transrec.user_encoder import UserShape


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
        text_shape, text_state = keep_lowest_layers(text_shape, text_state, layers)
        image_shape, image_state = keep_lowest_layers(image_shape, image_state, layers)
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
            save_weights(state, temporary / WEIGHTS)
            fingerprint = fingerprint_of(temporary)
            if folder.is_dir():
                check_holds(folder, fingerprint)
            else:
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


def _cutting(tokenizer: Tokenizer, limit: int) -> Tokenizer:
    """Return a tokenizer that cuts at a limit; where limits differ each has its own."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(limit)
    return own


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def _loaded(config: BackboneConfig, state: dict[str, Tensor]) -> TransRec:
    """Build the modules without drawing or even allocating weights:
    loading assigns them, mapped from their file.
    """
    with undrawn():
        model = build(config)
    model.load_state_dict({name: align(value) for name, value in state.items()}, assign=True)
    return model
