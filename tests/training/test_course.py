"""What a run took, over all of its stretches."""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from adapters_store.bundle import Manifest, read_bundle
from adapters_store.manifest_schema import find_flaws
from tests.tiny import tiny_backbone
from tests.training.runs import Interrupting, adapt
from training.checkpoint import load_checkpoint
from training.course import Course, Stretch
from training.result import thin_curves
from training.run import run


def test_a_resumed_run_reports_the_seconds_of_all_its_stretches(log: Path, tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "backbone")
    config = adapt(log, tmp_path / "backbone", tmp_path / "run", epochs=6)
    with pytest.raises(KeyboardInterrupt), Slow(after=3, wait=0.4) as reporter:
        run(config, reporter)
    kept = load_checkpoint(tmp_path / "run")
    assert kept is not None
    with pytest.raises(KeyboardInterrupt), Slow(after=5, wait=0.0) as reporter:
        run(config, reporter, resume=True)
    result = run(config, resume=True)
    report = result.report
    assert (report["stretches"], report["epochs"]) == (3, 6)
    assert report["seconds"] > 0.8, "two waits of the first stretch lie before its last checkpoint"
    assert 0 < report["last_stretch_seconds"] < report["seconds"] - 0.8
    assert report["last_stretch_epochs"] == 1
    assert read_bundle(result.artifact).manifest.metrics["seconds"] == report["seconds"]


def test_an_uninterrupted_run_is_one_stretch(log: Path, tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "backbone")
    report = run(adapt(log, tmp_path / "backbone", tmp_path / "run", epochs=2)).report
    assert (report["stretches"], report["last_stretch_epochs"]) == (1, 2)
    assert report["last_stretch_seconds"] == report["seconds"]


def test_memory_is_reported_above_the_floor_of_the_process_that_took_it() -> None:
    first = Stretch(memory_floor_mb=300.0)
    course = Course()
    course.note_memory(900.0, first)
    resumed = Course.resume(course.to_checkpoint(first), Stretch(memory_floor_mb=700.0))
    resumed.note_memory(1100.0, Stretch(memory_floor_mb=700.0))
    assert (resumed.memory_mb, resumed.memory_floor_mb) == (900.0, 300.0)
    resumed.note_memory(1400.0, Stretch(memory_floor_mb=700.0))
    assert (resumed.memory_mb, resumed.memory_floor_mb) == (1400.0, 700.0)


def test_a_checkpoint_of_an_earlier_release_still_counts_its_epochs(tmp_path: Path) -> None:
    old = asdict(Course(epoch=4, seconds=34.4, memory_mb=900.0))
    for name in ("earlier_seconds", "earlier_epochs", "stretches", "memory_floor_mb"):
        del old[name]
    torch.save(old, tmp_path / "old.pt")
    kept = torch.load(tmp_path / "old.pt", weights_only=True)
    course = Course.resume(kept, Stretch(memory_floor_mb=500.0))
    assert (course.earlier_seconds, course.earlier_epochs, course.stretches) == (34.4, 4, 2)
    assert course.memory_mb - course.memory_floor_mb == 400.0


class Slow(Interrupting):
    """A reporter whose epochs take a while."""

    def __init__(self, after: int, wait: float) -> None:
        super().__init__(after)
        self._wait = wait

    def epoch(self, epoch: int, items_per_second: float, curves: dict[str, list[float]]) -> None:
        """Wait, then do as `Interrupting`."""
        time.sleep(self._wait)
        super().epoch(epoch, items_per_second, curves)


@pytest.mark.parametrize("best_epoch", [1, 3334, 9999, 10_000])
def test_the_curves_of_ten_thousand_epochs_fit_into_a_bundle(best_epoch: int) -> None:
    epochs = list(range(1, 10_001))
    values = [1 / 3 + epoch / 7e5 for epoch in epochs]
    whole: dict[str, list[float]] = {
        "loss": values,
        "epoch": list(epochs),
        "hr": values,
        "ndcg": values,
    }
    thin = thin_curves(whole, best_epoch)
    manifest = Manifest("movies", "houlsby", {}, "f" * 64, "float32", curves=thin)
    assert "curves" not in find_flaws(manifest.to_json())
    assert list(thin) == ["loss", "loss_epoch", "epoch", "hr", "ndcg"]
    for name in ("loss_epoch", "epoch"):
        assert {1, best_epoch, 10_000} <= set(thin[name])
        assert max(later - earlier for earlier, later in pairwise(thin[name])) <= 14
    for x, y in (("loss_epoch", "loss"), ("epoch", "hr"), ("epoch", "ndcg")):
        assert thin[y] == [values[int(epoch) - 1] for epoch in thin[x]]


def test_short_curves_are_kept_whole() -> None:
    whole: dict[str, list[float]] = {
        "loss": [3.0, 2.0, 1.0],
        "epoch": [2, 3],
        "hr": [0.1, 0.2],
        "ndcg": [0.1, 0.1],
    }
    assert thin_curves(whole, 3) == whole
    assert thin_curves({"loss": [], "epoch": [], "hr": [], "ndcg": []}, 0)["loss"] == []
