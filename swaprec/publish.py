"""From a run to where it is served: catalog, bundle and held-out probes, to a service or into a
folder.

A folder that was written here is published later, from a machine that has neither the data nor the
run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from service.wire.responses import AdapterCard, ImportReport
from swaprec.cells import CellError, json_row
from swaprec.client import Client
from swaprec.errors import USAGE, Stop
from swaprec.extras import needing
from swaprec.import_report import check_complete, print_report
from swaprec.show import JobLines
from training.names import BUNDLE

ITEMS = "items.ndjson"
PROBES = "probes.json"
ABOUT = "handover.json"
MAX_PROBES = 2000
MAX_HISTORY = 1000
A_RUN = "the run of a bundle"


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a domain is served from: its bundle,
    the backbone's fingerprint, and the files or the run beside it.
    """

    domain: str
    backbone: str | None
    bundle: Path

    def items(self) -> Iterator[Mapping[str, Any]]:
        """Yield the catalog as the service takes it."""
        folder = self.bundle.parent
        if (folder / ITEMS).is_file():
            with (folder / ITEMS).open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)
            return
        with needing(A_RUN, "train"):
            from swaprec.catalog import catalog_items

        yield from catalog_items(_dataset(folder))

    def probes(self) -> list[dict[str, Any]]:
        """Return held-out users' histories and what came next."""
        folder = self.bundle.parent
        if (folder / PROBES).is_file():
            found: list[dict[str, Any]] = json.loads((folder / PROBES).read_text("utf-8"))
            return found
        dataset = _dataset(folder)
        import numpy as np

        split = dataset.split()
        ids = dataset.item_ids
        known = split.history("test")
        users = np.linspace(0, len(known) - 1, min(MAX_PROBES, len(known)), dtype=np.int64)
        return [
            {
                "history": [ids[row] for row in known[user][-MAX_HISTORY:]],
                "target": ids[split.test[user]],
            }
            for user in users
        ]


@dataclass(frozen=True, slots=True)
class Published:
    """A version's card and, where the catalog went before it, what became of its rows."""

    card: AdapterCard
    report: ImportReport | None = None

    def check(self) -> None:
        """Check that the whole catalog was stored.

        Raises:
            Stop: some rows were rejected.
        """
        if self.report is not None:
            check_complete(self.report, f"the catalog of {self.card['domain']}")


def push(
    client: Client, bundle: Path, *, catalog: bool, activate: bool, create: bool, console: Console
) -> Published:
    """Push a bundle, its run's catalog before it if asked.

    Raises:
        Stop: no such bundle, or no run whose catalog could be loaded.
    """
    if not catalog:
        path = find_bundle(bundle)
        return Published(
            client.push(path, activate=activate, create=create, on_job=JobLines(console))
        )
    return publish(
        client, handover(bundle), activate=activate, create=create, probes=False, console=console
    )


def publish(
    client: Client,
    given: HandOver,
    *,
    activate: bool,
    create: bool,
    probes: bool = True,
    console: Console,
) -> Published:
    """Bring catalog, probes and bundle to a service, in this order.

    Raises:
        Stop: no row of the catalog could be stored; neither probes nor bundle were sent then.
    """
    job_lines = JobLines(console)
    if create:
        client.put_domain(given.domain, backbone=given.backbone)
    report = client.import_items(given.domain, given.items(), job_lines)
    counts = (
        f"{report['accepted']} items new, {report['updated']} changed, {report['rejected_count']}"
        " rejected"
    )
    console.print(f"{given.domain}: {counts}")
    print_report(report, console)
    if not report["accepted"] + report["updated"] + report["unchanged"]:
        check_complete(report, f"the catalog of {given.domain}")
    if probes:
        count = client.put_probes(given.domain, given.probes())
        console.print(f"{given.domain}: {count} probes")
    return Published(client.push(given.bundle, activate=activate, on_job=job_lines), report)


def to_folder(given: HandOver, store: Path) -> Path:
    """Write what `publish` needs into `store/DOMAIN`, beside it first; returns that folder."""
    place = store / given.domain
    temporary = store / f".{given.domain}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with (temporary / ITEMS).open("w", encoding="utf-8") as file:
            file.writelines(
                json.dumps(_plain(item), ensure_ascii=False) + "\n" for item in given.items()
            )
        (temporary / PROBES).write_text(json.dumps(given.probes(), ensure_ascii=False), "utf-8")
        (temporary / ABOUT).write_text(
            json.dumps({"domain": given.domain, "backbone": given.backbone}), "utf-8"
        )
        shutil.copyfile(given.bundle, temporary / BUNDLE)
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json_row(item)
    except CellError as error:
        raise Stop(
            f"item {item.get('item_id')!r} of the catalog cannot be written: {error}"
        ) from error


def handover(given: Path) -> HandOver:
    """Read a run's folder, or one that `to_folder` wrote.

    Raises:
        Stop: it is neither.
    """
    bundle = find_bundle(given)
    if (bundle.parent / ABOUT).is_file():
        about = json.loads((bundle.parent / ABOUT).read_text("utf-8"))
        return HandOver(about["domain"], about["backbone"], bundle)
    with needing(A_RUN, "train"):
        from swaprec.evaluation import run_config

    config = run_config(bundle.parent)
    backbone = config.backbone.folder
    return HandOver(config.domain, fingerprint(backbone) if backbone is not None else None, bundle)


def find_bundle(given: Path) -> Path:
    """Return the bundle of a folder, or the file itself.

    Raises:
        Stop: there is none.
    """
    path = given / BUNDLE if given.is_dir() else given
    if not path.is_file():
        raise Stop(
            f"{path} is not there",
            'swaprec train with stage = "adapt" writes a bundle into its output folder',
            USAGE,
        )
    return path


def fingerprint(folder: Path) -> str:
    """Return the fingerprint of a backbone folder."""
    from transrec.backbone_folder import fingerprint_of

    return fingerprint_of(folder)


def _dataset(folder: Path) -> Any:
    with needing(A_RUN, "train"):
        from swaprec.evaluation import run_config
        from training.data import load_dataset

    return load_dataset(run_config(folder).data)
