"""A backbone: a pretrained, frozen TransRec in a folder, known by the fingerprint of its content.

The folder holds `config.json`, `model.safetensors` and `tokenizer.json`. Nothing else is read, and nothing in it
is executed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from transrec.adapters import AdapterShape
from transrec.checkpoints import read_text_encoder
from transrec.errors import BackboneError
from transrec.model import TransRec
from transrec.text_encoder import Architecture, Pooling, TextEncoder, TextShape
from transrec.user_encoder import UserShape

FORMAT = 1
FILES = ("config.json", "model.safetensors", "tokenizer.json")
Dtype = Literal["float32", "bfloat16"]
TORCH_DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """What `config.json` holds: everything but the weights and the tokenizer."""

    text: TextShape
    user: UserShape
    pooling: Pooling
    max_tokens: int = 30
    modality: Literal["text"] = "text"
    source: str = ""
    loss: str = "none"

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
            raise BackboneError(f"backbone format {found!r}: this version of swaprec reads format {FORMAT}")
        try:
            text = TextShape(**value.pop("text"))
            config = cls(text=text, user=UserShape(**value.pop("user")), **value)
        except (KeyError, TypeError) as error:
            raise BackboneError(f"config.json is not a backbone's: {error}") from error
        if config.text.architecture not in get_args(Architecture) or config.pooling not in get_args(Pooling):
            raise BackboneError(
                f"architecture {config.text.architecture!r} with pooling {config.pooling!r}: expected one of "
                f"{get_args(Architecture)} with one of {get_args(Pooling)}"
            )
        return config

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
        tokenizer: Tokenizer,
        *,
        fingerprint: str = "",
        name: str = "",
    ) -> None:
        self.config = config
        self.model = model.requires_grad_(requires_grad=False).eval()
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(config.max_tokens)
        self.fingerprint = fingerprint
        self.name = name
        self._casts: dict[torch.dtype, TextEncoder] = {}
        self._cast_lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> Backbone:
        """Read a backbone folder onto a device, frozen.

        Raises:
            BackboneError: a missing or damaged file, or weights that do not fit the config.
        """
        folder = Path(folder)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise BackboneError(
                f"{folder} is not a backbone folder: {', '.join(missing)} missing "
                '(`swaprec train` with stage = "pretrain" writes one)'
            )
        try:
            config = BackboneConfig.parse(json.loads((folder / "config.json").read_text("utf-8")))
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            model = _empty_model(config)
            model.load_state_dict(load_file(folder / "model.safetensors"), assign=True)
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
        name_or_path: str,
        *,
        pooling: Pooling = "cls",
        user: UserShape | None = None,
        max_tokens: int = 30,
        seed: int = 0,
    ) -> Backbone:
        """Start a backbone from a BERT or RoBERTa checkpoint: its encoder, a fresh projection and user encoder.

        Raises:
            BackboneError: no such checkpoint, or one of another architecture.
        """
        shape, state, tokenizer = read_text_encoder(name_or_path)
        config = BackboneConfig(shape, user or UserShape(), pooling, max_tokens, source=Path(name_or_path).name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = TransRec(shape, pooling, config.user)
        model.item_encoder.load_state_dict(state)
        return cls(config, model, tokenizer)

    def save(self, folder: Path | str) -> str:
        """Write the backbone folder beside its place and rename it in; return its fingerprint.

        Raises:
            FileExistsError: the folder exists and holds another backbone.
        """
        folder = Path(folder)
        beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            (beside / "config.json").write_text(json.dumps(self.config.to_json(), indent=1, sort_keys=True), "utf-8")
            self.tokenizer.save(str(beside / "tokenizer.json"), pretty=False)
            state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
            save_file(state, beside / "model.safetensors")
            fingerprint = fingerprint_of(beside)
            if not (folder.is_dir() and _holds(folder, fingerprint)):
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        self.fingerprint, self.name = fingerprint, folder.name
        return fingerprint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.projection.weight.device

    @property
    def shape(self) -> AdapterShape:
        """The sizes that an adapter must fit."""
        text, user = self.config.text, self.config.user
        return AdapterShape(text.layers, text.hidden, user.blocks, user.width, text.intermediate)

    @property
    def parameters_total(self) -> int:
        """Parameters of the whole TransRec, what full fine-tuning would train."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with its special tokens, cut to `max_tokens`, not padded."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def item_encoder(self, dtype: Dtype) -> TextEncoder:
        """Return the item encoder in a dtype; a copy in bfloat16 is made once and kept."""
        wanted = TORCH_DTYPES[dtype]
        if wanted == self.model.item_encoder.norm.weight.dtype:
            return self.model.item_encoder
        with self._cast_lock:
            if wanted not in self._casts:
                self._casts[wanted] = copy.deepcopy(self.model.item_encoder).to(wanted)
            return self._casts[wanted]


def _empty_model(config: BackboneConfig) -> TransRec:
    """Build the modules without drawing or even allocating weights: loading assigns them."""
    with torch.device("meta"):
        return TransRec(config.text, config.pooling, config.user)


def _holds(folder: Path, fingerprint: str) -> bool:
    found = fingerprint_of(folder) if all((folder / name).is_file() for name in FILES) else "nothing of ours"
    if found != fingerprint:
        raise FileExistsError(f"{folder} exists and holds {found[:12]}; move it away or choose another folder")
    return True


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over the three files of a backbone folder, 64 hex digits."""
    total = hashlib.sha256()
    for name in FILES:
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


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
