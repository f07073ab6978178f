"""Memory and time of `side` towers against `houlsby` in our own harness: `python -m
benchmarks.side`.

Both train on the same batches of 64 users with the same loss, each in a process of its own that
finds its frozen states cached. Memory is the peak above what the process held after its imports.
Needs an encoder folder (`make demo` fetches one) and a data set with a text.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from transrec.backbone import Backbone

TARGETS = {"time": 50.0, "memory": 0.2}
KINDS = {
    "houlsby": {"item": {"kind": "houlsby"}, "user": {"kind": "houlsby"}},
    "side": {"item": {"kind": "side"}, "user": {"kind": "houlsby"}},
}


def train(kind: str, encoder: str, data: Path, cache: Path, steps: int) -> None:
    """Train some steps; print the seconds of one,
    peak memory above the floor in MB, and the cache's bytes.
    """
    import torch

    from benchmarks.train import EachOnce, first_batches, step, subject_of
    from training.config import DataConfig
    from training.data import load_dataset
    from training.memory import peak_memory

    torch.set_num_threads(1)
    floor = peak_memory()
    backbone = Backbone.load(encoder)
    dataset = load_dataset(DataConfig(folder=data))
    subject = subject_of(backbone, dataset, KINDS[kind], cache, "float16")
    scheme = EachOnce(subject, dataset)
    optimizer = torch.optim.Adam(subject.trained.parameters(), lr=1e-4)
    times = []
    for batch in first_batches(dataset, backbone.config.max_history, steps):
        started = time.perf_counter()
        step(scheme.loss, optimizer, batch)
        times.append(time.perf_counter() - started)
    held = sum(path.stat().st_size for path in cache.iterdir())
    print(json.dumps([sorted(times)[len(times) // 2], peak_memory() - floor, held]))


def main() -> None:
    """Measure, and print the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--encoder", default=".swaprec/demo/minilm", help="folder of a BERT or RoBERTa checkpoint"
    )
    shared = Path(os.environ.get("SWAPREC_TEST_DATA", "."))
    parser.add_argument(
        "--data", type=Path, default=shared / "amazon_scientific", help="canonical folder"
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.kind is not None:
        train(given.kind, given.encoder, given.data, given.cache, given.steps)
        return
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "backbone"
        Backbone.from_encoder(given.encoder).save(saved)
        for kind in KINDS:
            cache = Path(folder) / kind
            line = [sys.executable, "-m", "benchmarks.side", "--kind", kind, "--cache", str(cache)]
            line += ["--encoder", str(saved), "--data", str(given.data)]
            for steps in (1, given.steps):  # the first fills the cache
                done = subprocess.run(
                    [*line, "--steps", str(steps)], check=True, capture_output=True, text=True
                )
            found[kind] = json.loads(done.stdout.splitlines()[-1])
            seconds, memory, held = found[kind]
            print(
                f"{kind}: {seconds:.3f} s a step, {memory:,.0f} MB above the floor,"
                f" {held / 2**20:,.0f} MB cached"
            )
    speed = round(found["houlsby"][0] / found["side"][0], 1)
    memory = round(found["side"][1] / found["houlsby"][1], 3)
    holds = speed >= TARGETS["time"] and memory <= TARGETS["memory"]
    bar = (
        "side's peak memory over houlsby's, and how many times as fast a step is, on"
        f" {given.data.name}"
    )
    print(json.dumps({"bar": bar, "value": [memory, speed], "target": [0.2, 50.0], "holds": holds}))
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
