"""From a run to a running service: catalog, bundle, activation."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from service.answers import AdapterCard
from swaprec.client import Client
from swaprec.errors import USAGE, Stop
from swaprec.show import JobLines


def publish(
    client: Client, bundle: Path, *, catalog: bool, activate: bool, create: bool, console: Console
) -> AdapterCard:
    """Push a bundle, its run's catalog before it if asked; returns the version's card.

    Raises:
        Stop: no such bundle, or no run whose catalog could be loaded.
    """
    path = bundle / "bundle.safetensors" if bundle.is_dir() else bundle
    if not path.is_file():
        raise Stop(
            f"{path} is not there", 'swaprec train with stage = "adapt" writes a bundle into its output folder', USAGE
        )

    told = JobLines(console)
    if not catalog:
        return client.push(path, activate=activate, create=create, on_job=told)
    from swaprec.catalog import catalog_items
    from swaprec.evaluation import run_config
    from training.data import load_dataset

    config = run_config(path.parent)
    if create:
        backbone = config.backbone.folder
        client.put_domain(config.domain, backbone=fingerprint(backbone) if backbone is not None else None)
    report = client.import_items(config.domain, catalog_items(load_dataset(config.data)), told)
    console.print(f"{config.domain}: {report['accepted']} items new, {report['updated']} changed")
    return client.push(path, activate=activate, on_job=told)


def fingerprint(folder: Path) -> str:
    """Return the fingerprint of a backbone folder."""
    from transrec.backbone import fingerprint_of

    return fingerprint_of(folder)
