"""Read pretrained item encoders of the transformers library, by hub name or folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from tokenizers import Tokenizer
from torch import Tensor

from transrec.errors import BackboneError
from transrec.image_encoder import ImageShape
from transrec.text_encoder import TextShape, from_library_names

SizedShape = TypeVar("SizedShape", TextShape, ImageShape)

_ARCHITECTURES = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
}


def read_text_encoder(name_or_path: str) -> tuple[TextShape, dict[str, Tensor], Tokenizer]:
    """Return shape, weights (our names) and tokenizer of a BERT or RoBERTa checkpoint.

    Raises:
        BackboneError: it cannot be found or read, or it is of another architecture.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(name_or_path)
        shape = _shape(config.to_dict(), name_or_path)
        with quiet():
            model, found = AutoModel.from_pretrained(
                name_or_path, add_pooling_layer=False, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, use_fast=True)
    except BackboneError:
        raise
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"encoder {name_or_path!r} cannot be read: {str(error).splitlines()[0]} (expected the"
            " folder of a BERT or RoBERTa checkpoint, or its hub name where there is a network)"
        ) from error
    if found["missing_keys"]:  # the library would draw them at random
        raise BackboneError(
            f"encoder {name_or_path!r} lacks weights:"
            f" {', '.join(sorted(found['missing_keys'])[:5])}"
        )
    state = {
        name: value.float().clone()
        for name, value in from_library_names(model.state_dict()).items()
    }
    return shape, state, Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's bars and its report about the
    unused pooler off the terminal; errors are raised anyway.
    """
    from transformers.utils import logging

    before = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def keep_lowest_layers(
    shape: SizedShape | None, state: dict[str, Tensor], layers: int
) -> tuple[SizedShape | None, dict[str, Tensor]]:
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


def _shape(config: Mapping[str, Any], name: str) -> TextShape:
    architecture = _ARCHITECTURES.get(config.get("model_type", ""))
    if architecture is None:
        raise BackboneError(
            f"encoder {name!r} is of type {config.get('model_type')!r}: expected one of"
            f" {', '.join(_ARCHITECTURES)}"
        )
    if (
        config.get("hidden_act") != "gelu"
        or config.get("position_embedding_type", "absolute") != "absolute"
    ):
        raise BackboneError(f"encoder {name!r}: expected gelu and absolute positions")
    return TextShape(
        architecture=architecture,  # type: ignore[arg-type]
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
        token_types=config["type_vocab_size"],
        norm_eps=config["layer_norm_eps"],
        pad_id=config.get("pad_token_id") or 0,
    )
