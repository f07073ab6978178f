"""`swaprec evaluate`: a run's bundle on its held-out users,
offline and, if asked, through a service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from adapters_store.bundle import Bundle, read_bundle
from swaprec.against import compare
from swaprec.client import Client
from swaprec.errors import USAGE, Stop
from training.config import RunConfig
from training.data import Dataset, load_dataset
from training.evaluate import evaluate
from training.names import BUNDLE
from training.progress import Reporter
from training.run import CONFIG
from training.run_file import load_config, parse_config
from transrec.adapters import Adapter, AdapterSpec
from transrec.backbone import Backbone


def evaluate_run(
    run: Path, overrides: Iterable[str], against: str | None, console: Console | None
) -> dict[str, Any]:
    """Evaluate a run; returns `offline` and, with a service, `served`, `difference` and `agrees`.

    Beside them stands what is needed to read the figures: `baselines`, `items`, `seed`,
    `data_digest`.

    Args:
        run: a run's folder, or its TOML file.
        overrides: `section.key=value`, with a TOML file.
        against: address of a service to ask, too.
        console: where progress goes; None keeps silent.

    Raises:
        Stop: no such run, or the service answers from another bundle or catalog.
        ProblemError, Unreachable: no such service or domain.
    """
    config = load_config(run, overrides) if run.is_file() else run_config(run)
    if against is not None:
        with Client(against) as client:
            client.domain(config.domain)  # whoever is not there is known before minutes are spent
    path = config.output / BUNDLE
    if config.backbone.folder is None or not path.is_file():
        raise Stop(
            f"{config.output} holds no bundle",
            'swaprec train with stage = "adapt" makes one',
            USAGE,
        )
    bundle = read_bundle(path)
    with Reporter(config.domain, console) as reporter:
        reporter.stage("read the data")
        dataset = load_dataset(config.data)
        if dataset.digest != bundle.manifest.data_digest:
            raise Stop(
                f"{config.data.folder} is not the data that {path} was trained on",
                "the digests differ",
                USAGE,
            )
        reporter.stage("load the backbone")
        backbone = Backbone.load(config.backbone.folder)
        adapter = load_adapter(bundle, backbone)
        dtype = bundle.manifest.dtype
        offline = evaluate(backbone, adapter, dataset, dtype=dtype, stage=reporter.stage).report
        measured = {"offline": offline, **_basis(bundle, dataset, config)}
        if against is None:
            return measured
        asked = reporter.stage(f"ask {against} for {len(dataset.sequences):,} users")
        with Client(against) as client:
            compared = compare(offline, dataset, client, config.domain, bundle.digest, asked)
    return {
        **measured,
        "served": compared.served,
        "difference": compared.difference,
        "agrees": compared.agrees,
    }


def _basis(bundle: Bundle, dataset: Dataset, config: RunConfig) -> dict[str, Any]:
    """Return what the figures were measured on;
    the bundle's baselines hold, since its data is the same.
    """
    return {
        "baselines": bundle.manifest.metrics.get("baselines", {}),
        "items": len(dataset.contents),
        "seed": config.seed,
        "data_digest": dataset.digest,
    }


def run_config(folder: Path) -> RunConfig:
    """Return the configuration that a run's folder was made with.

    Raises:
        Stop: it is no run's folder.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise Stop(
            f"{folder} is not the folder of a run: {CONFIG} is missing",
            "give the output folder of swaprec train",
            USAGE,
        )
    return parse_config(json.loads(path.read_text("utf-8")), str(path))


def load_adapter(bundle: Bundle, backbone: Backbone) -> Adapter:
    """Build a bundle's adapter for a backbone.

    Raises:
        Stop: it was trained on another one.
    """
    if bundle.manifest.backbone != backbone.fingerprint:
        trained = bundle.manifest.backbone[:12]
        served = backbone.fingerprint[:12]
        raise Stop(
            f"the bundle was trained on backbone {trained}, this is {served}",
            "name the folder it was trained on",
        )
    return Adapter.from_tensors(
        AdapterSpec.parse(bundle.manifest.spec), backbone.shape, bundle.tensors
    ).to(backbone.device)
