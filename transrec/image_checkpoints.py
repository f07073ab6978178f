"""Read pretrained image encoders of timm and of the transformers library, by hub name or folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from transrec.errors import BackboneError
from transrec.image_encoder import ImageShape, from_timm, from_transformers
from transrec.images import Preprocessing

_TRANSFORMERS = ("vit", "vit_mae")
_EXPECTED = (
    "expected a folder or hub name of a ViT or ViTMAE of transformers, or of a VisionTransformer of"
    " timm (ViT, DeiT, DINO, MAE)"
)
# PIL's numbers, as the configs store them.
_RESAMPLING = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}


def read_image_encoder(name_or_path: str) -> tuple[ImageShape, dict[str, Tensor]]:
    """Return shape and weights (our names) of a Vision Transformer checkpoint.

    Raises:
        BackboneError: it cannot be found or read, or is of another architecture.
    """
    try:
        shape, state = _reader(name_or_path)(name_or_path)
    except BackboneError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise BackboneError(
            f"image encoder {name_or_path!r} cannot be read: {lines[0]} ({_EXPECTED})"
        ) from error
    return shape, {name: value.float().contiguous() for name, value in state.items()}


def _reader(name_or_path: str) -> Callable[[str], tuple[ImageShape, dict[str, Tensor]]]:
    kind = _config(name_or_path).get("model_type")
    if kind is None:
        return _of_timm
    if kind in _TRANSFORMERS:
        return _of_transformers
    raise BackboneError(f"image encoder {name_or_path!r} is of type {kind!r}: {_EXPECTED}")


def _config(name_or_path: str) -> dict[str, Any]:
    """Return the checkpoint's `config.json`; an architecture's bare name at timm has none."""
    folder = Path(name_or_path)
    if folder.is_dir():
        value: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        return value
    if "/" not in name_or_path:
        return {}
    from huggingface_hub import hf_hub_download

    found: dict[str, Any] = json.loads(
        Path(hf_hub_download(name_or_path, "config.json")).read_text("utf-8")
    )
    return found


def _of_transformers(name: str) -> tuple[ImageShape, dict[str, Tensor]]:
    from transformers import AutoConfig, ViTMAEModel, ViTModel

    from transrec.checkpoints import quiet

    config = AutoConfig.from_pretrained(name)
    if config.hidden_act != "gelu" or config.num_channels != 3:  # noqa: PLR2004 - red, green, blue
        raise BackboneError(f"image encoder {name!r}: expected gelu and 3 channels")
    library: Any = ViTModel if config.model_type == "vit" else ViTMAEModel
    more = {"add_pooling_layer": False} if library is ViTModel else {}
    with quiet():
        model, found = library.from_pretrained(name, output_loading_info=True, **more)
    _check_complete(name, found["missing_keys"])
    shape = ImageShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate=config.intermediate_size,
        patch=config.patch_size,
        first=1,
        norm_eps=config.layer_norm_eps,
        preprocessing=_processor(name, config.image_size),
        qkv_bias=config.qkv_bias,
    )
    return shape, from_transformers(model.state_dict())


def _check_complete(name: str, missing: Any) -> None:
    if missing:  # the library would draw them at random
        raise BackboneError(
            f"image encoder {name!r} lacks weights: {', '.join(sorted(missing)[:5])}"
        )


def _processor(name: str, size: int) -> Preprocessing:
    """Read `preprocessor_config.json`;
    without one, do as ViT's own processor: squash, bilinear, mean = std = 0.5.
    """
    given = _processor_config(name)
    wanted = given.get("size", {})
    wanted = {"height": wanted, "width": wanted} if isinstance(wanted, int) else wanted
    scale = given.get("rescale_factor", 1 / 255)
    if given.get("do_resize", True) is False or not math.isclose(scale, 1 / 255, abs_tol=1e-6):
        raise BackboneError(
            f"image encoder {name!r}: its preprocessing does not resize, or scales to other than 0"
            " to 1"
        )
    short = wanted.get("shortest_edge")
    crops = bool(given.get("do_center_crop")) or short is not None
    resize = short or wanted.get("height", size)
    return Preprocessing(
        size=size,
        resize=resize,
        fit="crop" if crops else "squash",
        interpolation=_RESAMPLING[given.get("resample", 2)],  # type: ignore[arg-type]
        mean=tuple(given.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(given.get("image_std", (0.5, 0.5, 0.5))),
    )


def _processor_config(name: str) -> Mapping[str, Any]:
    from transformers.utils.hub import cached_file

    path = cached_file(
        name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
    )
    return {} if path is None else json.loads(Path(path).read_text("utf-8"))


def _of_timm(name: str) -> tuple[ImageShape, dict[str, Tensor]]:
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.models.vision_transformer import VisionTransformer

    source = (
        f"local-dir:{name}" if Path(name).is_dir() else f"hf-hub:{name}" if "/" in name else name
    )
    data_config: Any = resolve_model_data_config  # it has no types
    model: Any = timm.create_model(source, pretrained=True, num_classes=0)
    if not isinstance(model, VisionTransformer):
        raise BackboneError(
            f"image encoder {name!r} is a {type(model).__name__} of timm: {_EXPECTED}"
        )
    return timm_shape(model, name, data_config(model)), from_timm(model.state_dict())


def timm_shape(model: Any, name: str, data: Mapping[str, Any]) -> ImageShape:
    """Return the sizes of a timm VisionTransformer.

    Raises:
        BackboneError: it computes what our blocks do not.
    """
    block = model.blocks[0]
    size = data["input_size"]
    odd = {
        "no CLS token": model.cls_token is None,
        "a norm before the blocks": _is_there(model.norm_pre),
        "normed queries and keys": _is_there(block.attn.q_norm),
        "another feed-forward": type(block.mlp).__name__ != "Mlp" or _is_there(block.mlp.norm),
        "another activation": "gelu" not in type(block.mlp.act).__name__.lower(),
        "another block": type(block).__name__ != "Block",
        "no square input of 3 channels": size[0] != 3 or size[1] != size[2],  # noqa: PLR2004 - red, green, blue
        "a crop mode other than center and squash": data.get("crop_mode", "center")
        not in ("center", "squash"),
    }
    found = [what for what, there in odd.items() if there]
    if found:
        raise BackboneError(f"image encoder {name!r} has {', '.join(found)}: that is not supported")
    return ImageShape(
        layers=len(model.blocks),
        hidden=model.embed_dim,
        heads=block.attn.num_heads,
        intermediate=block.mlp.fc1.out_features,
        patch=model.patch_embed.patch_size[0],
        first=model.num_prefix_tokens,
        norm_eps=block.norm1.eps,
        preprocessing=Preprocessing(
            size=size[1],
            resize=int(size[1] / data["crop_pct"]),
            fit="squash" if data.get("crop_mode") == "squash" else "crop",
            interpolation=data["interpolation"],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
        ),
        qkv_bias=block.attn.qkv.bias is not None,
    )


def _is_there(module: Any) -> bool:
    return module is not None and type(module).__name__ != "Identity"
