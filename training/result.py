"""What a run leaves: `result.json`, and of an adapter's the bundle with its manifest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters_store.bundle import Manifest
from training.config import RunConfig
from training.course import Course
from training.data import Dataset
from transrec.backbone import Backbone

RESULT = "result.json"
MAX_CURVE_POINTS = 800
"""Points of a curve in a manifest, whose curves may take 128 KiB: five of them take about 85."""


def write_result(
    config: RunConfig,
    dataset: Dataset,
    course: Course,
    seconds: float,
    test: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `result.json` and return what it holds.

    Args:
        config: of the run.
        dataset: it was trained and tested on.
        course: of the training.
        seconds: of everything before the test, in the last stretch.
        test: metrics on the test split.
        baselines: the same of each baseline.
        facts: what else is known, such as parameters.
    """
    report = {
        "stage": config.stage,
        "domain": config.domain,
        "seed": config.seed,
        "test": dict(test),
        "baselines": {name: dict(one) for name, one in baselines.items()},
        "curves": course.curves,
        "best_epoch": course.best_epoch,
        "epochs": course.epoch,
        "seconds": round(course.earlier_seconds + seconds, 2),
        "seconds_an_epoch": round(course.seconds / max(1, course.epoch), 3),
        "stretches": course.stretches,
        "last_stretch_seconds": round(seconds, 2),
        "last_stretch_epochs": course.epoch - course.earlier_epochs,
        "peak_memory_mb": round(course.memory_mb, 1),
        "memory_floor_mb": round(course.memory_floor_mb, 1),
        "commit": commit(),
        "data": {
            "digest": dataset.digest,
            "items": len(dataset.contents),
            "users": len(dataset.sequences),
            "rejected": dataset.rejected.to_json(),
            "notes": dataset.rejected.notes_to_json(),
        },
        **facts,
    }
    (config.output / RESULT).write_text(json.dumps(report, indent=1), "utf-8")
    return report


def manifest(
    config: RunConfig, dataset: Dataset, backbone: Backbone, report: Mapping[str, Any]
) -> Manifest:
    """Describe the bundle of an adapter's run."""
    return Manifest(
        domain=config.domain,
        kind=report["kind"],
        spec=report["spec"],
        backbone=backbone.fingerprint,
        dtype=report["dtype"],
        data_digest=dataset.digest,
        max_history=backbone.config.max_history,
        parameters=report["parameters"],
        metrics={
            "test": report["test"],
            "baselines": report["baselines"],
            "seconds": report["seconds"],
            "items": report["data"]["items"],
            "seed": report["seed"],
            "split": "test",
        },
        curves=thin_curves(report["curves"], report["best_epoch"]),
        config=_portable(config),
        commit=report["commit"],
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def thin_curves(curves: Mapping[str, list[float]], best_epoch: int) -> dict[str, list[float]]:
    """Return curves that a manifest holds: of a long one the first, the last and the best point,
    and others evenly.

    Losses have one value an epoch: where they are thinned, `loss_epoch` names the epochs of those
    that are left.

    Args:
        curves: `loss` of every epoch; `epoch`, `hr` and `ndcg` of each validation.
        best_epoch: whose weights are in the bundle.
    """
    losses = curves["loss"]
    epochs = curves["epoch"]
    best = epochs.index(best_epoch) if best_epoch in epochs else 0
    validations = _evenly(len(epochs), best)
    found = {
        name: [curves[name][place] for place in validations] for name in ("epoch", "hr", "ndcg")
    }
    kept = _evenly(len(losses), best_epoch - 1)
    thinned = {"loss": [losses[place] for place in kept]}
    if len(kept) < len(losses):
        thinned["loss_epoch"] = [float(place + 1) for place in kept]
    return thinned | found


def _evenly(length: int, best: int) -> list[int]:
    """Return the places of a curve that are kept; all of a short one."""
    if length <= MAX_CURVE_POINTS:
        return list(range(length))
    places = {
        round(step * (length - 1) / (MAX_CURVE_POINTS - 1)) for step in range(MAX_CURVE_POINTS)
    }
    return sorted(places | {min(max(best, 0), length - 1)})


def commit() -> str:
    """Return the checkout's commit, empty where the
    code does not lie in one, or there is no git.
    """
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607 - git is where the user has it
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _portable(config: RunConfig) -> dict[str, Any]:
    """The configuration without the folders of this machine: a bundle travels."""
    value: dict[str, Any] = config.model_dump(
        mode="json", exclude={"output": True, "backbone": {"folder"}}
    )
    value["data"]["folder"] = config.data.folder.name
    value["train"].pop("cache_folder")
    return value
