"""Image encoders compute what the libraries they come from compute."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from transformers import ViTImageProcessorPil, ViTMAEModel, ViTModel

from tests.checkpoints import mae_checkpoint, timm_checkpoint, vit_checkpoint
from tests.tiny import tiny_adapter, tiny_backbone, tiny_picture
from transrec.adapters import AdapterSpec, stack
from transrec.backbone import Backbone
from transrec.content import Content, Picture
from transrec.errors import BackboneError
from transrec.image_encoder import ImageEncoder
from transrec.images import decode, pixels

PICTURES = [
    tiny_picture(number, size) for number, size in enumerate([(40, 32), (32, 50), (90, 90)])
]


def ours(folder: Path, pooling: Any = "cls") -> ImageEncoder:
    encoder = Backbone.from_encoder(image=str(folder), image_pooling=pooling).model.image_encoder
    assert encoder is not None
    return encoder


def pixels_of(encoder: ImageEncoder) -> torch.Tensor:
    prepared = [pixels(decode(picture), encoder.shape.preprocessing) for picture in PICTURES]
    return torch.from_numpy(np.stack(prepared))


def opened() -> list[Image.Image]:
    return [Image.open(io.BytesIO(picture)) for picture in PICTURES]


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_vit_of_transformers(tmp_path: Path, pooling: Any, qkv_bias: bool) -> None:
    folder = vit_checkpoint(tmp_path / "vit", qkv_bias=qkv_bias)
    encoder = ours(folder, pooling)
    given = ViTImageProcessorPil.from_pretrained(folder)(opened(), return_tensors="pt")[
        "pixel_values"
    ]
    with torch.inference_mode():
        states = (
            ViTModel.from_pretrained(folder, add_pooling_layer=False)
            .eval()(given)
            .last_hidden_state
        )
        found = encoder(pixels_of(encoder))
    assert torch.allclose(
        found, states[:, 0] if pooling == "cls" else states[:, 1:].mean(1), atol=1e-5
    )


def test_an_mae_sees_every_patch_whatever_its_config_says(tmp_path: Path) -> None:
    folder = mae_checkpoint(tmp_path / "mae")
    encoder = ours(folder)
    library = ViTMAEModel.from_pretrained(folder, mask_ratio=0.0).eval()
    given = ViTImageProcessorPil.from_pretrained(folder)(opened(), return_tensors="pt")[
        "pixel_values"
    ]
    with torch.inference_mode():
        expected = library(given).last_hidden_state[:, 0]
        assert torch.allclose(encoder(pixels_of(encoder)), expected, atol=1e-5)
        assert torch.equal(encoder(pixels_of(encoder)), encoder(pixels_of(encoder)))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("vit_tiny_patch16_224", {}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("deit3_small_patch16_224", {"init_values": 0.1}),
        ("vit_small_patch14_reg4_dinov2", {"init_values": 0.5}),
        ("vit_small_patch16_224.dino", {}),
        ("vit_base_patch16_224.mae", {"qkv_bias": False}),
    ],
)
def test_vision_transformers_of_timm(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    folder = timm_checkpoint(tmp_path / "timm", name, **more)
    encoder = ours(folder)
    library: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    prepare = create_transform(**resolve_model_data_config(library))
    with torch.inference_mode():
        expected = library.forward_features(torch.stack([prepare(image) for image in opened()]))[
            :, 0
        ]
        assert torch.allclose(encoder(pixels_of(encoder)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}, "no CLS token"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "normed queries and keys"),
        ("vit_tiny_patch16_224", {"pre_norm": True}, "a norm before the blocks"),
    ],
)
def test_what_our_blocks_do_not_compute_is_refused(
    tmp_path: Path, name: str, more: Any, says: str
) -> None:
    folder = timm_checkpoint(tmp_path / "timm", name, **more)
    with pytest.raises(BackboneError, match=says):
        Backbone.from_encoder(image=str(folder))


def test_a_folder_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "swin"}', "utf-8")
    with pytest.raises(BackboneError, match="'swin': expected a folder or hub name of a ViT"):
        Backbone.from_encoder(image=str(tmp_path))
    with pytest.raises(BackboneError, match="cannot be read"):
        Backbone.from_encoder(image="no_such_architecture")


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    folder = vit_checkpoint(tmp_path / "vit")
    state = load_file(folder / "model.safetensors")
    lost = next(name for name in state if name.endswith("1.intermediate.dense.weight"))
    save_file(
        {name: value for name, value in state.items() if name != lost},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(BackboneError, match=r"lacks weights: .*1\.mlp\.fc1\.weight"):
        Backbone.from_encoder(image=str(folder))


def test_a_processor_that_crops_is_followed(tmp_path: Path) -> None:
    folder = vit_checkpoint(tmp_path / "vit")
    config = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    config |= {
        "size": {"shortest_edge": 40},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config), "utf-8")
    encoder = ours(folder)
    given = ViTImageProcessorPil.from_pretrained(folder)(opened(), return_tensors="pt")[
        "pixel_values"
    ]
    assert torch.allclose(encoder._normal(pixels_of(encoder)), given, atol=1e-5)


def test_a_backbone_of_images_survives_its_folder(tmp_path: Path) -> None:
    backbone = Backbone.from_encoder(image=str(vit_checkpoint(tmp_path / "vit")))
    backbone.save(tmp_path / "backbone")
    again = Backbone.load(tmp_path / "backbone", "cpu")
    assert sorted(path.name for path in (tmp_path / "backbone").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert again.config == backbone.config
    contents = [Content(image=Picture.of(picture)) for picture in PICTURES]
    first, second = (one.inputs(contents).load(np.arange(3), "cpu") for one in (backbone, again))
    with torch.inference_mode():
        assert torch.equal(backbone.model.item_encoder(first), again.model.item_encoder(second))


def test_from_scratch_takes_sizes_and_draws_weights_by_the_seed(tmp_path: Path) -> None:
    folder = vit_checkpoint(tmp_path / "vit")
    made = [
        Backbone.from_encoder(image=str(folder), from_scratch=True, seed=seed) for seed in (1, 1, 2)
    ]
    weights = [one.model.state_dict()["item_encoder.blocks.0.query.weight"] for one in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert made[0].config.image == Backbone.from_encoder(image=str(folder)).config.image


def test_images_of_different_domains_in_one_forward_equal_one_by_one() -> None:
    backbone = tiny_backbone(modalities=("image",))
    spec = AdapterSpec.parse({"item": {"kind": "houlsby", "hidden": 8}})
    sides = [None, *(tiny_adapter(backbone, seed, spec).item for seed in (1, 2))]
    bank = stack(sides, backbone.shape.items[0])  # type: ignore[arg-type]
    index = torch.tensor([2, 0, 1, 1])
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    encoder = backbone.model.item_encoder
    with torch.inference_mode():
        together = encoder(images, bank.rows(index))
        for row, slot in enumerate(index.tolist()):
            assert torch.allclose(
                together[row], encoder(images[row : row + 1], sides[slot])[0], atol=1e-5
            )
