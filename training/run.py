"""A run from its configuration to its result: `pretrain` and `finetune` write a backbone folder, `adapt` a bundle."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adapters_store.bundle import Manifest, write_bundle
from training.baselines import baseline_reports
from training.checkpoint import NAME as CHECKPOINT
from training.config import RunConfig
from training.data import Dataset, load_dataset
from training.evaluate import evaluate
from training.loop import Course, Subject, TrainingError, fit
from training.progress import Reporter
from training.states import ItemStates, item_states
from transrec.adapters import Adapter, Paired, SideAdapter, count_parameters
from transrec.backbone import Backbone, resolve_dtype
from transrec.user_encoder import UserShape

RESULT, BUNDLE, BACKBONE, CONFIG = "result.json", "bundle.safetensors", "backbone", "config.json"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left: `artifact` is the bundle or the backbone folder, `report` the content of `result.json`."""

    artifact: Path
    report: dict[str, Any]


def run(config: RunConfig, reporter: Reporter | None = None, *, resume: bool = False) -> RunResult:
    """Do what a configuration says.

    Args:
        config: the run.
        reporter: tells how it goes.
        resume: go on from the checkpoint in the output folder, if there is one.

    Raises:
        TrainingError, DataError, BackboneError: what went wrong and what to do.
        FileExistsError: the output folder holds another run, or one to resume.
    """
    _claim(config, resume=resume)
    with _threads(config.train.threads), reporter or Reporter(config.domain) as told:
        dataset = load_dataset(config.data)
        stage = _adapt if config.stage == "adapt" else _pretrain
        return stage(config, dataset, told, resume)


def finished(config: RunConfig) -> RunResult | None:
    """Return the result of this very configuration, if it was run before and is still there."""
    artifact = config.output / (BUNDLE if config.stage == "adapt" else BACKBONE)
    if not (config.output / RESULT).is_file() or not artifact.exists():
        return None
    if (config.output / CONFIG).read_text("utf-8") != config.model_dump_json(indent=1):
        return None
    return RunResult(artifact, json.loads((config.output / RESULT).read_text("utf-8")))


def _claim(config: RunConfig, *, resume: bool) -> None:
    """Take the output folder for this run."""
    folder, described = config.output, config.model_dump_json(indent=1)
    if resume and (folder / CONFIG).is_file() and (folder / CONFIG).read_text("utf-8") != described:
        raise FileExistsError(
            f"{folder} holds a run of another configuration: resume with that one, or give another output"
        )
    if not resume and (folder / CHECKPOINT).exists():
        raise FileExistsError(f"{folder} holds a run already: --resume goes on with it, another output starts afresh")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(described, "utf-8")


def _pretrain(config: RunConfig, dataset: Dataset, reporter: Reporter, resume: bool) -> RunResult:
    """Train everything but, unless asked, the encoder; `finetune` goes on from a backbone and always asks."""
    started = time.monotonic()
    backbone = _begin(config)
    states = _states(config, backbone, dataset, None, reporter)
    model = backbone.model
    trained = nn.ModuleDict({"projection": model.projection, "user_encoder": model.user_encoder})
    rates = {"projection": config.train.lr, "user_encoder": config.train.lr}
    if _trains_encoder(config):
        trained["item_encoder"], rates["item_encoder"] = model.item_encoder, config.train.encoder_lr
    trained.requires_grad_(requires_grad=True)
    subject = Subject(backbone, None, states, trained, rates)
    course = fit(subject, dataset, config.train, config.output, config.seed, reporter, resume=resume)
    trained.requires_grad_(requires_grad=False)
    backbone.changed()
    seconds = time.monotonic() - started
    backbone.config = replace(backbone.config, loss=config.train.loss)
    artifact = config.output / BACKBONE
    fingerprint = backbone.save(artifact)
    facts = {"backbone": fingerprint, "parameters": _count(trained)}
    return RunResult(artifact, _report(config, dataset, backbone, None, course, seconds, facts, reporter))


def _begin(config: RunConfig) -> Backbone:
    """Return the backbone to train: one that was trained before, or a fresh one on checkpoints' encoders."""
    source = config.backbone
    if config.stage == "finetune":
        assert source.folder is not None  # noqa: S101 - RunConfig has checked it
        return Backbone.load(source.folder)
    shape = UserShape(source.width, source.max_history, source.heads, source.blocks, config.train.dropout)
    return Backbone.from_encoder(
        source.encoder,
        source.image_encoder,
        pooling=source.pooling,
        image_pooling=source.image_pooling,
        user=shape,
        max_tokens=tuple(source.max_tokens) if isinstance(source.max_tokens, list) else source.max_tokens,
        from_scratch=source.from_scratch,
        seed=config.seed,
    )


def _trains_encoder(config: RunConfig) -> bool:
    return config.stage == "finetune" or (config.stage == "pretrain" and config.train.train_encoder)


def _adapt(config: RunConfig, dataset: Dataset, reporter: Reporter, resume: bool) -> RunResult:
    started = time.monotonic()
    assert config.backbone.folder is not None  # noqa: S101 - RunConfig has checked it
    backbone = Backbone.load(config.backbone.folder)
    spec, shape = config.spec, backbone.shape
    adapter = Adapter.create(spec, shape, config.seed).to(backbone.device)
    if not any(True for _ in adapter.parameters()):
        raise TrainingError(
            "adapter: kind none on both sides trains nothing; give [adapter.item] or [adapter.user] a kind"
        )
    states = _states(config, backbone, dataset, adapter.item, reporter)
    subject = Subject(backbone, adapter, states, nn.ModuleDict({"adapter": adapter}), {"adapter": config.train.lr})
    course = fit(subject, dataset, config.train, config.output, config.seed, reporter, resume=resume)
    seconds = time.monotonic() - started
    count = count_parameters(spec, shape)
    share = count.total / backbone.parameters_total
    parameters = {"item": count.item, "user": count.user, "total": count.total, "share": share}
    facts = {"backbone": backbone.fingerprint, "parameters": parameters, "spec": spec.to_json(), "kind": spec.kind}
    report = _report(config, dataset, backbone, adapter, course, seconds, facts, reporter)
    artifact = config.output / BUNDLE
    write_bundle(artifact, _manifest(config, dataset, backbone, report), _arrays(adapter))
    return RunResult(artifact, report)


def _states(
    config: RunConfig, backbone: Backbone, dataset: Dataset, adapter: SideAdapter | Paired | None, reporter: Reporter
) -> ItemStates:
    return item_states(
        backbone,
        dataset.contents,
        adapter,
        config.output / "cache",
        trains_encoder=_trains_encoder(config),
        keep=config.train.cache,
        dtype=config.train.embed_dtype,
        progress=reporter.stage("cache what is frozen"),
    )


def _report(
    config: RunConfig,
    dataset: Dataset,
    backbone: Backbone,
    adapter: Adapter | None,
    course: Course,
    seconds: float,
    facts: dict[str, Any],
    reporter: Reporter,
) -> dict[str, Any]:
    """Evaluate on the test split, the baselines beside, and write `result.json`."""
    reporter.stage("evaluate")
    dtype = resolve_dtype(config.train.embed_dtype, backbone.device)
    frozen = adapter.requires_grad_(requires_grad=False).eval() if adapter is not None else None
    test = evaluate(backbone, frozen, dataset, dtype=dtype).report
    baselines = baseline_reports(dataset)
    if adapter is not None:
        baselines = {"none": evaluate(backbone, None, dataset, dtype=dtype).report, **baselines}
    report = {
        "stage": config.stage,
        "domain": config.domain,
        "seed": config.seed,
        "test": test,
        "baselines": baselines,
        "curves": course.curves,
        "best_epoch": course.best_epoch,
        "seconds": round(seconds, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "dtype": dtype,
        "data": {
            "digest": dataset.digest,
            "items": len(dataset.contents),
            "users": len(dataset.sequences),
            "rejected": dataset.rejected.to_json(),
        },
        **facts,
    }
    (config.output / RESULT).write_text(json.dumps(report, indent=1), "utf-8")
    return report


def _manifest(config: RunConfig, dataset: Dataset, backbone: Backbone, report: dict[str, Any]) -> Manifest:
    return Manifest(
        domain=config.domain,
        kind=report["kind"],
        spec=report["spec"],
        backbone=backbone.fingerprint,
        dtype=report["dtype"],
        data_digest=dataset.digest,
        max_history=backbone.config.max_history,
        parameters=report["parameters"],
        metrics={"test": report["test"], "baselines": report["baselines"], "seconds": report["seconds"]},
        curves=report["curves"],
        config=_portable(config),
        commit=_commit(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def _portable(config: RunConfig) -> dict[str, Any]:
    """The configuration without the folders of this machine: a bundle travels."""
    value: dict[str, Any] = config.model_dump(mode="json", exclude={"output": True, "backbone": {"folder"}})
    value["data"]["folder"] = config.data.folder.name
    return value


def _arrays(adapter: Adapter) -> dict[str, Any]:
    return {name: value.numpy() for name, value in adapter.to_tensors().items()}


def _count(trained: nn.Module) -> dict[str, float]:
    return {"total": sum(parameter.numel() for parameter in trained.parameters())}


def _commit() -> str:
    """The checkout's commit, empty where the code does not lie in one, or there is no git."""
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


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
