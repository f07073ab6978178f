"""Read pretrained item encoders of the transformers library, by hub name or folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from transrec.backbone import BackboneError
from transrec.text_encoder import TextShape, from_library_names

_ARCHITECTURES = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "camembert": "roberta"}


def read_text_encoder(name_or_path: str) -> tuple[TextShape, dict[str, Tensor], Tokenizer]:
    """Return shape, weights (our names) and tokenizer of a BERT or RoBERTa checkpoint.

    Raises:
        BackboneError: it cannot be found or read, or it is of another architecture.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(name_or_path)
        shape = _shape(config.to_dict(), name_or_path)
        model = AutoModel.from_pretrained(name_or_path, add_pooling_layer=False)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, use_fast=True)
    except (OSError, ValueError) as error:
        if isinstance(error, BackboneError):
            raise
        raise BackboneError(
            f"encoder {name_or_path!r} cannot be read: {str(error).splitlines()[0]} "
            "(expected the hub name or the folder of a BERT or RoBERTa checkpoint)"
        ) from error
    state = {name: value.float().clone() for name, value in from_library_names(model.state_dict()).items()}
    return shape, state, Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())


def _shape(config: Mapping[str, Any], name: str) -> TextShape:
    architecture = _ARCHITECTURES.get(config.get("model_type", ""))
    if architecture is None:
        raise BackboneError(
            f"encoder {name!r} is of type {config.get('model_type')!r}: expected one of {', '.join(_ARCHITECTURES)}"
        )
    if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
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
