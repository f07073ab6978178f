"""A LoRA checkpoint of the peft library becomes a bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from adapters_store.bundle import Manifest, write_bundle
from swaprec.errors import USAGE, Stop
from transrec.adapters import Adapter, AdapterSpec, SpecError, count_parameters
from transrec.adapters.peft import PeftError, from_peft
from transrec.backbone import Backbone

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 1 << 30
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def bundle_from_peft(folder: Path, backbone_folder: Path, domain: str, output: Path) -> AdapterSpec:
    """Write a bundle whose item side is the checkpoint and whose user side is none.

    Raises:
        Stop: a folder that is not of that form, a checkpoint that is no LoRA of query and value, or
            one for an encoder of another size; nothing is written.
    """
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        hint = "save_pretrained of a peft model writes both; a .bin is a pickle and is not read"
        raise Stop(f"{folder} lacks {' and '.join(missing)}", hint, USAGE)
    if not _DOMAIN.fullmatch(domain):
        raise Stop(
            f"--domain {domain!r} is no name",
            "expected lower-case letters, digits, dots and dashes",
            USAGE,
        )
    for name, most in ((CONFIG, MAX_CONFIG_BYTES), (WEIGHTS, MAX_WEIGHTS_BYTES)):
        if (size := (folder / name).stat().st_size) > most:
            raise Stop(
                f"{folder / name} has {size:,} bytes, expected {most:,} at most",
                "a LoRA is small",
                USAGE,
            )
    backbone = Backbone.load(backbone_folder, "cpu")
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8-sig"))
        side, tensors = from_peft(config, load_file(folder / WEIGHTS))
        spec = AdapterSpec(item=side)
        adapter = Adapter.from_tensors(spec, backbone.shape, tensors)
    except PeftError as error:
        hint = "only LoRA of query and value is imported"
        raise Stop(f"{folder}: {'; '.join(error.problems)}", hint, USAGE) from error
    except SpecError as error:
        hint = "it was trained for an encoder of another size"
        raise Stop(
            f"{folder} does not fit {backbone_folder}: {'; '.join(error.problems)}", hint, USAGE
        ) from error
    except (ValueError, RecursionError, SafetensorError) as error:
        raise Stop(
            f"{folder} cannot be read: {error}", "it is not as peft writes it", USAGE
        ) from error
    count = count_parameters(spec, backbone.shape)
    share = count.total / backbone.parameters_total
    parameters = {"item": count.item, "user": count.user, "total": count.total, "share": share}
    manifest = Manifest(
        domain=domain,
        kind=spec.kind,
        spec=spec.to_json(),
        backbone=backbone.fingerprint,
        dtype="float32",
        parameters=parameters,
    )
    write_bundle(
        output, manifest, {name: tensor.numpy() for name, tensor in adapter.to_tensors().items()}
    )
    return spec
