"""A run from its configuration to its result:
`pretrain` and `finetune` write a backbone folder, `adapt` a bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from adapters_store.bundle import write_bundle
from training.baselines import baseline_reports
from training.checkpoint import NAME as CHECKPOINT
from training.config import RunConfig
from training.course import Course, Stretch
from training.coverage import describe_unknown, unknown_tokens
from training.data import Dataset, load_dataset, repeated_targets
from training.evaluate import evaluate
from training.id_sasrec import evaluate_ids, id_subject
from training.loop import TrainingError, fit
from training.memory import peak_memory
from training.names import BUNDLE
from training.progress import Reporter
from training.result import RESULT, manifest, write_result
from training.state_cache import item_states
from training.states import ItemStates
from training.subject import Subject
from training.team import Team
from training.trackers import open_tracker
from transrec.adapters import Adapter, Paired, SideAdapter, count_parameters
from transrec.backbone import Backbone
from transrec.devices import resolve_dtype
from transrec.user_encoder import UserShape

BACKBONE = "backbone"
CONFIG = "config.json"
ARTIFACTS = {"adapt": BUNDLE, "pretrain": BACKBONE, "finetune": BACKBONE, "ids": RESULT}


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left: `artifact` is the bundle or the backbone folder,
    `report` the content of `result.json`.
    """

    artifact: Path
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """What a stage works with."""

    config: RunConfig
    dataset: Dataset
    reporter: Reporter
    team: Team
    resume: bool
    stretch: Stretch

    def fit(self, subject: Subject) -> Course:
        """Train a subject as configured."""
        config = self.config
        return fit(
            subject,
            self.dataset,
            config.train,
            config.output,
            config.seed,
            self.reporter,
            resume=self.resume,
            team=self.team,
            stretch=self.stretch,
        )

    def write(
        self,
        course: Course,
        seconds: float,
        test: Mapping[str, float],
        facts: Mapping[str, Any],
        none: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Write `result.json`, the baselines beside the test."""
        self.reporter.stage("measure the baselines")
        baselines = ({"none": none} if none is not None else {}) | baseline_reports(self.dataset)
        facts = {**facts, "processes": self.team.size}
        return write_result(self.config, self.dataset, course, seconds, test, baselines, facts)


def run(config: RunConfig, reporter: Reporter | None = None, *, resume: bool = False) -> RunResult:
    """Do what a configuration says; of several processes the leader writes, and the others return
    what it wrote.

    Args:
        config: the run.
        reporter: shows the progress.
        resume: go on from the checkpoint in the output folder, if there is one.

    Raises:
        TrainingError, DataError, BackboneError: what went wrong and what to do.
        FileExistsError: the output folder holds another run, or one to resume.
    """
    team = Team()
    if team.leads:
        _claim(config, resume=resume)
    active_reporter = (reporter if team.leads else None) or Reporter(config.domain)
    with _threads(config.train.threads), active_reporter:
        if config.train.track and team.leads:
            active_reporter.track(open_tracker(config.train.track, config.domain, config.output))
        on_gpu = team.device.startswith("cuda") or torch.cuda.is_available()
        floor = 0.0 if on_gpu else peak_memory()
        dataset = load_dataset(config.data)
        if warning := repeated_targets(dataset):
            active_reporter.note(f"warning: {warning}")
        STAGES[config.stage](
            Run(config, dataset, active_reporter, team, resume, Stretch(memory_floor_mb=floor))
        )
    team.meet()
    found = finished(config)
    assert found is not None  # noqa: S101 - the leader has just written it
    return found


def finished(config: RunConfig) -> RunResult | None:
    """Return the result of this very configuration, if it was run before and is still there."""
    artifact = config.output / ARTIFACTS[config.stage]
    if not (config.output / RESULT).is_file() or not artifact.exists():
        return None
    if not _is_of(config, config.output / CONFIG):
        return None
    return RunResult(artifact, json.loads((config.output / RESULT).read_text("utf-8")))


def _is_of(config: RunConfig, file: Path) -> bool:
    """Return whether a file describes this run;
    it may lack settings that were added since, at their defaults.
    """
    try:
        return RunConfig.model_validate_json(file.read_text("utf-8")) == config
    except ValidationError:
        return False


def _claim(config: RunConfig, *, resume: bool) -> None:
    """Take the output folder for this run."""
    folder = config.output
    described = config.model_dump_json(indent=1)
    if resume and (folder / CONFIG).is_file() and not _is_of(config, folder / CONFIG):
        raise FileExistsError(
            f"{folder} holds a run of another configuration: resume with that one, or give another"
            " output"
        )
    if not resume and (folder / CHECKPOINT).exists():
        raise FileExistsError(
            f"{folder} holds a run already: --resume goes on with it, another output starts afresh"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    (folder / CONFIG).write_text(described, "utf-8")


def _pretrain(job: Run) -> None:
    """Train everything but, unless asked,
    the encoder; `finetune` goes on from a backbone and always asks.
    """
    config = job.config
    backbone = _begin(config, job.team.device)
    states = _states(job, backbone, None)
    model = backbone.model
    trained = nn.ModuleDict({"projection": model.projection, "user_encoder": model.user_encoder})
    rates = {"projection": config.train.lr, "user_encoder": config.train.lr}
    if _trains_encoder(config):
        trained["item_encoder"] = model.item_encoder
        rates["item_encoder"] = config.train.encoder_lr
    trained.requires_grad_(requires_grad=True)
    course = job.fit(Subject(backbone, None, states, trained, rates))
    if not job.team.leads:
        return
    trained.requires_grad_(requires_grad=False)
    backbone.changed()
    seconds = job.stretch.seconds
    backbone.config = replace(backbone.config, loss=config.train.loss)
    fingerprint = backbone.save(config.output / BACKBONE)
    dtype = resolve_dtype(config.train.embed_dtype, backbone.device)
    test = evaluate(backbone, None, job.dataset, dtype=dtype, stage=job.reporter.stage).report
    facts = {
        "backbone": fingerprint,
        "dtype": dtype,
        "parameters": _count(trained),
        "unknown_tokens": unknown_tokens(backbone, job.dataset.texts),
    }
    job.write(course, seconds, test, facts)


def _begin(config: RunConfig, device: str) -> Backbone:
    """Return the backbone to train: one that was trained before,
    or a fresh one on checkpoints' encoders.
    """
    source = config.backbone
    if config.stage == "finetune":
        assert source.folder is not None  # noqa: S101 - RunConfig has checked it
        return Backbone.load(source.folder, device)
    shape = UserShape(
        source.width, source.max_history, source.heads, source.blocks, config.train.dropout
    )
    return Backbone.from_encoder(
        source.encoder,
        source.image_encoder,
        pooling=source.pooling,
        image_pooling=source.image_pooling,
        user=shape,
        max_tokens=tuple(source.max_tokens)
        if isinstance(source.max_tokens, list)
        else source.max_tokens,
        from_scratch=source.from_scratch,
        layers=source.encoder_layers,
        seed=config.seed,
        device=device,
    )


def _trains_encoder(config: RunConfig) -> bool:
    return config.stage == "finetune" or (config.stage == "pretrain" and config.train.train_encoder)


def _adapt(job: Run) -> None:
    """Train an adapter on a frozen backbone."""
    config = job.config
    assert config.backbone.folder is not None  # noqa: S101 - RunConfig has checked it
    backbone = Backbone.load(config.backbone.folder, job.team.device)
    spec = config.spec
    shape = backbone.shape
    adapter = Adapter.create(spec, shape, config.seed).to(backbone.device)
    if not any(True for _ in adapter.parameters()):
        raise TrainingError(
            "adapter: kind none on both sides trains nothing; give [adapter.item] or [adapter.user]"
            " a kind"
        )
    states = _states(job, backbone, adapter.item)
    subject = Subject(
        backbone, adapter, states, nn.ModuleDict({"adapter": adapter}), {"adapter": config.train.lr}
    )
    course = job.fit(subject)
    if not job.team.leads:
        return
    seconds = job.stretch.seconds
    dtype = resolve_dtype(config.train.embed_dtype, backbone.device)
    adapter.requires_grad_(requires_grad=False).eval()
    test = evaluate(backbone, adapter, job.dataset, dtype=dtype, stage=job.reporter.stage).report
    count = count_parameters(spec, shape)
    share = count.total / backbone.parameters_total
    facts = {
        "backbone": backbone.fingerprint,
        "dtype": dtype,
        "parameters": {
            "item": count.item,
            "user": count.user,
            "total": count.total,
            "share": share,
        },
        "spec": spec.to_json(),
        "kind": spec.kind,
        "unknown_tokens": unknown_tokens(backbone, job.dataset.texts),
    }
    none = evaluate(backbone, None, job.dataset, dtype=dtype, stage=job.reporter.stage).report
    report = job.write(course, seconds, test, facts, none)
    arrays = {name: value.numpy() for name, value in adapter.to_tensors().items()}
    write_bundle(config.output / BUNDLE, manifest(config, job.dataset, backbone, report), arrays)


def _ids(job: Run) -> None:
    """Train the baseline that knows items by their ids alone."""
    subject = id_subject(job.config, len(job.dataset.contents), job.team.device)
    course = job.fit(subject)
    if not job.team.leads:
        return
    seconds = job.stretch.seconds
    job.reporter.stage("evaluate")
    test = evaluate_ids(subject, job.dataset).report
    job.write(course, seconds, test, {"parameters": _count(subject.trained), "kind": "ids"})


STAGES = {"pretrain": _pretrain, "finetune": _pretrain, "adapt": _adapt, "ids": _ids}


def _states(job: Run, backbone: Backbone, adapter: SideAdapter | Paired | None) -> ItemStates:
    if job.team.leads and backbone.config.text is not None:
        job.reporter.note(describe_unknown(unknown_tokens(backbone, job.dataset.texts)))
    with job.team.leader_first():
        return item_states(
            backbone,
            job.dataset.contents,
            adapter,
            job.config.train.cache_folder or job.config.output / "cache",
            trains_encoder=_trains_encoder(job.config),
            keep=job.config.train.cache,
            dtype=job.config.train.embed_dtype,
            progress=job.reporter.stage("cache what is frozen"),
        )


def _count(trained: nn.Module) -> dict[str, float]:
    return {"total": sum(parameter.numel() for parameter in trained.parameters())}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
