"""A search for the smallest adapter that is nearly as good as the best one, by optuna."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from swaprec.experiment import RunPool
from training.config import RunConfig
from training.experiments import Experiment, Planned, Search
from training.run import finished
from training.run_file import parse_config, set_key

TRIALS = "trials"
STUDY = "search.db"


def run_search(
    experiment: Experiment, search: Search, output: Path, jobs: int, console: Console
) -> dict[str, Any]:
    """Try sizes of the experiment's first run; validation's HR@10 up, parameters down. What was
    tried is kept.

    Returns:
        The sizes found, their HR@10 on validation and on test, and what they train.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    base = experiment.runs[0]
    workers = RunPool(jobs, console)
    study = optuna.create_study(
        study_name=base.name,
        storage=f"sqlite:///{output / STUDY}",
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.TPESampler(
            seed=base.config.seed, n_startup_trials=min(6, search.trials)
        ),
        load_if_exists=True,
    )

    def one(trial: optuna.Trial) -> tuple[float, float]:
        sizes = {key: trial.suggest_int(key, *ends, log=True) for key, ends in search.keys.items()}
        config = _sized(base, sizes, output)
        failure = None if finished(config) else workers.train(config)
        found = finished(config)
        if failure is not None or found is None:
            raise RuntimeError(failure)
        hr = max(found.report["curves"]["hr"])
        count = found.report["parameters"]["total"]
        trial.set_user_attr("test", found.report["test"]["hr"])
        console.print(
            f"trial {trial.number + 1}: {sizes} HR@10 {hr:.4f} on validation, {count:,} parameters"
        )
        return hr, float(count)

    left = search.trials - len([one for one in study.trials if one.state.is_finished()])
    try:
        study.optimize(one, n_trials=max(0, left), n_jobs=jobs, catch=(RuntimeError,))
    finally:
        workers.stop()
    return _smallest(study, search)


def _sized(base: Planned, sizes: dict[str, int], output: Path) -> RunConfig:
    name = "-".join(
        f"{key.rpartition('.')[0].rpartition('.')[2]}{size}" for key, size in sizes.items()
    )
    raw = base.config.model_dump(mode="json") | {"output": str(output / TRIALS / name)}
    for key, size in sizes.items():
        set_key(raw, f"{key}={size}", base.name)
    return parse_config(raw, base.name)


def _smallest(study: optuna.Study, search: Search) -> dict[str, Any]:
    """Of all trials within the margin of the best, the one that trains least."""
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if not done:
        raise RuntimeError("no trial succeeded: the log of each is in the folder trials")
    best = max(trial.values[0] for trial in done)
    near = [trial for trial in done if trial.values[0] >= best * (1 - search.within)]
    chosen = min(near, key=lambda trial: trial.values[1])
    return {
        **chosen.params,
        "parameters": int(chosen.values[1]),
        "validation_hr": chosen.values[0],
        "test_hr": chosen.user_attrs["test"],
        "best_validation_hr": best,
        "trials": len(done),
    }
