"""A LoRA checkpoint that the peft library wrote becomes the item side of a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, ViTMAEModel, ViTModel

from adapters_store.bundle import read_bundle
from swaprec.errors import USAGE, Stop
from swaprec.from_peft import bundle_from_peft
from tests.checkpoints import bert_checkpoint, mae_checkpoint, roberta_checkpoint, vit_checkpoint
from tests.swaprec.test_cli import swaprec
from transrec.adapters import Adapter, AdapterSpec
from transrec.backbone import Backbone
from transrec.text_encoder import Tokens

# peft asks a model for a name that transformers has since changed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TITLES = ("one two three", "four", "five six seven eight nine ten")


def _peft(
    checkpoint: Path, folder: Path, encoder: Any = None, *, targets: Sequence[str] = ("query", "value"), **more: Any
) -> Path:
    """Save a LoRA whose updates are all far from zero."""
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": list(targets), **more})
    model = get_peft_model(encoder or AutoModel.from_pretrained(checkpoint), config)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator)
    model.save_pretrained(str(folder))
    return folder


def _import(checkpoint: Path, folder: Path) -> Path:
    """Return the backbone folder, beside which `bundle.safetensors` was written."""
    backbone = folder.parent / "backbone"
    Backbone.from_encoder(str(checkpoint)).save(backbone)
    bundle_from_peft(folder, backbone, "movies", folder.parent / "bundle.safetensors")
    return backbone


@pytest.mark.parametrize("write", [bert_checkpoint, roberta_checkpoint])
@pytest.mark.parametrize(
    "settings",
    [{}, {"targets": ["query"]}, {"use_rslora": True, "r": 3}, {"layers_to_transform": [2]}],
    ids=["plain", "query_only", "rslora", "one_layer"],
)
def test_its_states_are_pefts_own(write: Callable[[Path], Path], settings: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "checkpoint")
    folder = _peft(checkpoint, tmp_path / "peft", **settings)
    backbone = Backbone.load(_import(checkpoint, folder), "cpu")
    bundle = read_bundle(tmp_path / "bundle.safetensors")
    adapter = Adapter.from_tensors(AdapterSpec.parse(bundle.manifest.spec), backbone.shape, bundle.tensors)

    encoded = AutoTokenizer.from_pretrained(checkpoint)(list(TITLES), padding=True, return_tensors="pt")
    encoder = AutoModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        plain = encoder(**encoded).last_hidden_state[:, 0]
        theirs = PeftModel.from_pretrained(encoder, str(folder)).eval()(**encoded).last_hidden_state[:, 0]
        ours, frozen = (_states(backbone, side) for side in (adapter, None))
    assert (frozen - plain).abs().max() < 1e-5
    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - plain).abs().max() > 1e-3  # the update is no small thing


@pytest.mark.parametrize("mae", [False, True])
def test_a_lora_of_an_image_encoder_is_pefts_own(mae: bool, tmp_path: Path) -> None:
    checkpoint = mae_checkpoint(tmp_path / "vit") if mae else vit_checkpoint(tmp_path / "vit")
    library = ViTMAEModel if mae else ViTModel
    more: dict[str, Any] = {"mask_ratio": 0.0} if mae else {"add_pooling_layer": False}
    folder = _peft(
        checkpoint, tmp_path / "peft", library.from_pretrained(checkpoint, **more), targets=["q_proj", "v_proj"]
    )
    backbone = Backbone.from_encoder(image=str(checkpoint))
    backbone.save(tmp_path / "backbone")
    bundle_from_peft(folder, tmp_path / "backbone", "movies", tmp_path / "bundle.safetensors")
    bundle = read_bundle(tmp_path / "bundle.safetensors")
    adapter = Adapter.from_tensors(AdapterSpec.parse(bundle.manifest.spec), backbone.shape, bundle.tensors)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    encoder = backbone.model.image_encoder
    assert encoder is not None
    wrapped = PeftModel.from_pretrained(library.from_pretrained(checkpoint, **more), str(folder)).eval()
    with torch.no_grad():
        theirs = wrapped(encoder._normal(pixels)).last_hidden_state[:, 0]
        assert (encoder(pixels, adapter.item) - theirs).abs().max() < 1e-5
        assert (encoder(pixels) - theirs).abs().max() > 1e-3


def _states(backbone: Backbone, adapter: Adapter | None) -> torch.Tensor:
    encoder, side = backbone.model.item_encoder, adapter.item if adapter else None
    return torch.cat([encoder(Tokens(torch.tensor([ids])), side) for ids in backbone.tokenize(TITLES)])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"targets": ["query", "key"]}, "attention.self.key.lora_A.weight: expected LoRA weights of query and value"),
        ({"bias": "lora_only"}, "bias 'lora_only': expected 'none'"),
        ({"use_dora": True}, "use_dora True: expected False"),
        ({"rank_pattern": {"query": 2}}, "rank_pattern {'query': 2}: expected {}"),
    ],
)
def test_what_is_more_than_lora_of_query_and_value_is_refused(
    settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft", **settings)
    assert says in _refused(folder, tmp_path)


def test_one_for_another_encoder_is_refused(tmp_path: Path) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    tensors = {name: value[..., :7] for name, value in load_file(folder / "adapter_model.safetensors").items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "adapter_model.safetensors")
    assert "item.0.query.a: expected [4, 24], got [4, 7]" in _refused(folder, tmp_path)


def test_a_folder_that_is_none_says_what_it_lacks(tmp_path: Path) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    (folder / "adapter_config.json").write_text("{", "utf-8")
    assert "cannot be read" in _refused(folder, tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}), "utf-8")
    assert "peft_type 'IA3': expected LORA" in _refused(folder, tmp_path)
    (folder / "adapter_config.json").unlink()
    assert "lacks adapter_config.json" in _refused(folder, tmp_path)


def test_by_hand_it_becomes_a_bundle_of_its_domain(tmp_path: Path) -> None:
    checkpoint, backbone, output = (tmp_path / name for name in ("checkpoint", "backbone", "bundle.safetensors"))
    folder = _peft(bert_checkpoint(checkpoint), tmp_path / "peft")
    Backbone.from_encoder(str(checkpoint)).save(backbone)
    done = swaprec("import-peft", str(folder), str(output), "--backbone", str(backbone), "--domain", "movies")
    assert (done.returncode, done.stdout.strip()) == (0, str(output)), done.stderr
    assert "lora of rank 4 on layers [0, 1, 2]" in done.stderr
    assert read_bundle(output).manifest.domain == "movies"


def _refused(folder: Path, tmp_path: Path) -> str:
    backbone, output = tmp_path / "backbone", tmp_path / "bundle.safetensors"
    if not backbone.is_dir():
        Backbone.from_encoder(str(tmp_path / "checkpoint")).save(backbone)
    with pytest.raises(Stop) as caught:
        bundle_from_peft(folder, backbone, "movies", output)
    assert (caught.value.code, output.exists()) == (USAGE, False)
    return str(caught.value)
