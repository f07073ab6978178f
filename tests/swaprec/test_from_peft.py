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
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

TITLES = ("one two three", "four", "five six seven eight nine ten")


def _peft(
    checkpoint: Path,
    folder: Path,
    encoder: Any = None,
    *,
    targets: Sequence[str] = ("query", "value"),
    **more: Any,
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
def test_its_states_are_pefts_own(
    write: Callable[[Path], Path], settings: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = write(tmp_path / "checkpoint")
    folder = _peft(checkpoint, tmp_path / "peft", **settings)
    backbone = Backbone.load(_import(checkpoint, folder), "cpu")
    bundle = read_bundle(tmp_path / "bundle.safetensors")
    adapter = Adapter.from_tensors(
        AdapterSpec.parse(bundle.manifest.spec), backbone.shape, bundle.tensors
    )

    encoded = AutoTokenizer.from_pretrained(checkpoint)(
        list(TITLES), padding=True, return_tensors="pt"
    )
    encoder = AutoModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        plain = encoder(**encoded).last_hidden_state[:, 0]
        theirs = (
            PeftModel.from_pretrained(encoder, str(folder))
            .eval()(**encoded)
            .last_hidden_state[:, 0]
        )
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
        checkpoint,
        tmp_path / "peft",
        library.from_pretrained(checkpoint, **more),
        targets=["q_proj", "v_proj"],
    )
    backbone = Backbone.from_encoder(image=str(checkpoint))
    backbone.save(tmp_path / "backbone")
    bundle_from_peft(folder, tmp_path / "backbone", "movies", tmp_path / "bundle.safetensors")
    bundle = read_bundle(tmp_path / "bundle.safetensors")
    adapter = Adapter.from_tensors(
        AdapterSpec.parse(bundle.manifest.spec), backbone.shape, bundle.tensors
    )
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    encoder = backbone.model.image_encoder
    assert encoder is not None
    wrapped = PeftModel.from_pretrained(
        library.from_pretrained(checkpoint, **more), str(folder)
    ).eval()
    with torch.no_grad():
        theirs = wrapped(encoder._normal(pixels)).last_hidden_state[:, 0]
        assert (encoder(pixels, adapter.item) - theirs).abs().max() < 1e-5
        assert (encoder(pixels) - theirs).abs().max() > 1e-3


def _states(backbone: Backbone, adapter: Adapter | None) -> torch.Tensor:
    encoder = backbone.model.item_encoder
    side = adapter.item if adapter else None
    return torch.cat(
        [encoder(Tokens(torch.tensor([ids])), side) for ids in backbone.tokenize(TITLES)]
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"targets": ["query", "key"]},
            "attention.self.key.lora_A.weight: expected LoRA weights of query and value",
        ),
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
    tensors = {
        name: value[..., :7]
        for name, value in load_file(folder / "adapter_model.safetensors").items()
    }
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    assert "item.0.query.a: expected [4, 24], got [4, 7]" in _refused(folder, tmp_path)


def test_a_folder_that_is_none_says_what_it_lacks(tmp_path: Path) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    (folder / "adapter_config.json").write_text("{", "utf-8")
    assert "cannot be read" in _refused(folder, tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}), "utf-8")
    assert "peft_type 'IA3': expected LORA" in _refused(folder, tmp_path)
    (folder / "adapter_config.json").unlink()
    assert "lacks adapter_config.json" in _refused(folder, tmp_path)


@pytest.mark.parametrize("how", ["pissa", "pissa_niter_16", "olora", "PiSSA"])
def test_one_whose_pretrained_weights_were_changed_is_refused_by_name(
    how: str, tmp_path: Path
) -> None:
    folder = _peft(
        bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft", init_lora_weights=how.lower()
    )
    says = _refused(_with(folder, init_lora_weights=how), tmp_path)
    assert (
        f"init_lora_weights '{how}': PiSSA, OLoRA, CorDA, LoftQ and their like change the"
        " pretrained weights" in says
    )
    assert "path_initial_model_for_weight_conversion" in says


@pytest.mark.parametrize("how", ["gaussian", "orthogonal", True, False])
def test_one_that_began_otherwise_on_the_same_weights_is_taken(
    how: str | bool, tmp_path: Path
) -> None:
    folder = _peft(
        bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft", init_lora_weights=how
    )
    _import(tmp_path / "checkpoint", folder)
    assert read_bundle(tmp_path / "bundle.safetensors").manifest.kind == "item:lora+user:none"


def test_two_towers_whose_layers_have_one_name_are_refused(tmp_path: Path) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    tensors = load_file(folder / "adapter_model.safetensors")
    both = {
        name.replace("model.encoder", f"model.{tower}.encoder"): tensors[name]
        for name in tensors
        for tower in "ab"
    }
    save_file(
        {name: value.clone() for name, value in both.items()}, folder / "adapter_model.safetensors"
    )
    says = _refused(folder, tmp_path)
    assert "model.a.encoder.layer.0.attention.self.query.lora_A.weight and " in says
    assert (
        "model.b.encoder.layer.0.attention.self.query.lora_A.weight are the same layer of two"
        " towers" in says
    )
    assert says.endswith("and 2 problems more")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lora_alpha": None}, "lora_alpha None: expected a positive number"),
        ({"lora_alpha": "8"}, "lora_alpha '8': expected a positive number"),
        ({"lora_alpha": True}, "lora_alpha True: expected a positive number"),
        ({"lora_alpha": float("nan")}, "lora_alpha nan: expected a positive number"),
        ({"lora_alpha": -1}, "lora_alpha -1: expected a positive number"),
        ({"r": None}, "r None: expected a whole number"),
        ({"r": 3}, "lora_A.weight: shape [4, 24], expected [3, width]"),
        ({"use_rslora": "yes"}, "use_rslora 'yes': expected true or false"),
        ({"use_dora": 0}, "use_dora 0: expected False"),
        ({"alpha_pattern": {"query": 9}}, "alpha_pattern {'query': 9}: expected {}"),
        ({"modules_to_save": ["pooler"]}, "modules_to_save ['pooler']: expected None"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out True: expected False"),
        ({"lora_bias": True}, "lora_bias True: it changes the output"),
        ({"use_qalora": True}, "use_qalora True: it changes the output"),
        ({"layer_replication": [[0, 2]]}, "layer_replication [[0, 2]]: it changes the output"),
        ({"unheard_of": "x" * 999}, "unheard_of 'xxx"),
        ({"init_lora_weights": 1}, "init_lora_weights 1: PiSSA"),
        ({"peft_type": ["LORA"]}, "peft_type ['LORA']: expected LORA"),
    ],
)
def test_a_setting_that_is_missing_or_of_another_type_is_named(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    assert says in _refused(_with(folder, **changes), tmp_path)


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first, second, third, fourth = sorted(tensors)[:4]
    tensors[first] = tensors[first][0]
    tensors[second] = tensors[second].to(torch.int32)
    tensors[third] = tensors[third] / 0
    del tensors[fourth]
    save_file({name: value.clone() for name, value in tensors.items()}, path)
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "bias": "all", "r": 4}', "utf-8"
    )
    says = _refused(folder, tmp_path)
    for part in (
        "bias 'all': expected 'none'",
        "lora_alpha is missing: expected a positive number",
        f"{first}: shape [24], expected [4, width]",
        f"{second}: int32, expected floats",
        f"{third}: holds values that are not finite",
        "one of lora_A and lora_B is missing",
    ):
        assert part in says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "cannot be read"),
        ("[]", "expected an object of settings, got []"),
        ('"LORA"', "expected an object of settings"),
        ('{"a": "' + "x" * (1 << 20) + '"}', "expected 1,048,576 at most"),
    ],
    ids=["deep", "list", "text", "large"],
)
def test_a_config_that_is_none_is_refused(text: str, says: str, tmp_path: Path) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    (folder / "adapter_config.json").write_text(text, "utf-8")
    assert says in _refused(folder, tmp_path)


def test_a_byte_order_mark_before_the_config_is_no_part_of_it(tmp_path: Path) -> None:
    folder = _peft(bert_checkpoint(tmp_path / "checkpoint"), tmp_path / "peft")
    path = folder / "adapter_config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    _import(tmp_path / "checkpoint", folder)
    assert (tmp_path / "bundle.safetensors").is_file()


def _with(folder: Path, **changes: Any) -> Path:
    """Change settings of a checkpoint's config."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return folder


def test_by_hand_it_becomes_a_bundle_of_its_domain(tmp_path: Path) -> None:
    checkpoint, backbone, output = (
        tmp_path / name for name in ("checkpoint", "backbone", "bundle.safetensors")
    )
    folder = _peft(bert_checkpoint(checkpoint), tmp_path / "peft")
    Backbone.from_encoder(str(checkpoint)).save(backbone)
    done = swaprec(
        "import-peft", str(folder), str(output), "--backbone", str(backbone), "--domain", "movies"
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(output)), done.stderr
    assert "lora of rank 4 on layers [0, 1, 2]" in done.stderr
    assert read_bundle(output).manifest.domain == "movies"


def _refused(folder: Path, tmp_path: Path) -> str:
    backbone = tmp_path / "backbone"
    output = tmp_path / "bundle.safetensors"
    if not backbone.is_dir():
        Backbone.from_encoder(str(tmp_path / "checkpoint")).save(backbone)
    with pytest.raises(Stop) as caught:
        bundle_from_peft(folder, backbone, "movies", output)
    assert (caught.value.code, output.exists()) == (USAGE, False)
    return str(caught.value)
