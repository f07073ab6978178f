"""`python -m service.embedding.worker_main PARENT THREADS`:
the process that `service.embedding.worker` speaks to.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from adapters_store.bundle import read_bundle
from adapters_store.errors import BundleError, OutOfSpace
from service.catalog.bases import Bases
from service.catalog.index import build, use_one_thread
from service.catalog.mapped import open_array
from service.content.blobs import Blobs
from service.die_with_parent import die_with_parent
from service.embedding.base_builder import BaseBuilder
from service.embedding.segments import Segments
from service.embedding.vectors import VectorFiles, embed_into
from service.embedding.versions import Prepared
from service.embedding.worker import NICE, VersionFile
from service.errors import StateUnavailable, VerificationFailed
from service.state import State
from service.state.redis import RedisState
from service.state.snapshots import Snapshots
from service.state.sqlite import SqliteState
from transrec.adapters import Adapter, AdapterSpec, SpecError
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.content import Content, Picture
from transrec.devices import Dtype

PROGRESS_INTERVAL_S = 0.2

_log = logging.getLogger("swaprec")


def main() -> int:
    """Do tasks until standard input ends."""
    die_with_parent(int(sys.argv[1]))
    _give_way()
    torch.set_num_threads(int(sys.argv[2]))
    use_one_thread()
    # What a library prints must not be taken for an answer.
    answers = sys.stdout
    sys.stdout = sys.stderr
    loaded: dict[str, Backbone] = {}
    for line in sys.stdin:
        try:
            task = json.loads(line)
            result = None
            if task["do"] == "index":
                result = _index(task)
            elif task["do"] == "fold":
                _compact(task, loaded, answers)
            else:
                _embed(task, loaded, answers)
            _answer(answers, {"end": result})
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits must learn of it
            _answer(answers, _describe_error(error))
    return 0


def _describe_error(error: Exception) -> dict[str, str]:
    """Describe an error to the service, which raises some kinds again with their own message."""
    if isinstance(error, VerificationFailed):
        return {"refused": error.detail}
    if isinstance(error, OutOfSpace):
        return {"full": str(error)}
    away = isinstance(error, StateUnavailable) or isinstance(error.__cause__, StateUnavailable)
    return {"unavailable" if away else "error": f"{type(error).__name__}: {error}"}


def _give_way() -> None:
    """Run only where nobody else would:
    a niced process is not interrupted in its slice, an idle one is at once.
    """
    os.nice(NICE)
    with suppress(AttributeError, PermissionError):  # not Linux, or not allowed in this container
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _index(task: dict[str, Any]) -> dict[str, Any] | None:
    vectors = _rows(Path(task["vectors"]), task["count"])
    tuned = build(vectors, np.load(task["queries"]), task["source"], Path(task["path"]))
    return None if tuned is None else tuned.to_json()


def _compact(task: dict[str, Any], loaded: dict[str, Backbone], answers: TextIO) -> None:
    where = task["where"]
    backbone = _backbone(task, loaded)
    data = Path(where["data"])
    state: State = SqliteState(data) if where["redis"] is None else RedisState(where["redis"], data)

    def stage(name: str) -> Callable[[int, int], None]:
        reported = 0.0
        _answer(answers, {"stage": name, "done": 0, "total": 0})

        def progress(done: int, total: int) -> None:
            nonlocal reported
            if time.monotonic() - reported > PROGRESS_INTERVAL_S or done == total:
                _answer(answers, {"stage": name, "done": done, "total": total})
                reported = time.monotonic()

        return progress

    try:
        builder = BaseBuilder(
            state,
            Bases(data / "bases"),
            VectorFiles(data / "vectors"),
            Blobs(data / "blobs"),
            Snapshots(data / "snapshots"),
            # Whoever waits for this process kills it.
            lambda vectors, count, queries, source, path, _: build(
                _rows(vectors, count), queries, source, path
            ),
            where["least_for_index"],
        )
        wanted = _readable([VersionFile(**one) for one in task["versions"]], backbone)
        builder.build(state.get_domain(task["domain"]), backbone, wanted, task["token"], stage)
    finally:
        state.close()


def _readable(versions: list[VersionFile], backbone: Backbone) -> list[Prepared]:
    """Load versions; a damaged one is left out, unless it is the first, which this is done for."""
    found = [_prepared(versions[0], backbone)]
    for version in versions[1:]:
        try:
            found.append(_prepared(version, backbone))
        except (BundleError, SpecError, OSError, ValueError) as error:
            _log.warning("%s is left out of the next base: %s", version.bundle, error)
    return found


def _prepared(version: VersionFile, backbone: Backbone) -> Prepared:
    bundle = None if version.bundle is None else Path(version.bundle)
    adapter = None if bundle is None else _adapter(bundle, backbone)
    dtype: Dtype = "bfloat16" if version.dtype == "bfloat16" else "float32"
    return Prepared(version.version, version.digest, dtype, adapter, 0, bundle)


def _adapter(bundle: Path, backbone: Backbone) -> Adapter:
    read = read_bundle(bundle, stored=True)
    return Adapter.from_tensors(AdapterSpec.parse(read.manifest.spec), backbone.shape, read.tensors)


def _backbone(task: dict[str, Any], loaded: dict[str, Backbone]) -> Backbone:
    folder = task["backbone"]
    return loaded.get(folder) or loaded.setdefault(folder, Backbone.load(folder, "cpu"))


def _rows(vectors: Path, count: int) -> Floats:
    return open_array(vectors)[:count]


def _embed(task: dict[str, Any], loaded: dict[str, Backbone], answers: TextIO) -> None:
    backbone = _backbone(task, loaded)
    adapter = None if task["bundle"] is None else _adapter(Path(task["bundle"]), backbone)
    with Path(task["contents"]).open(encoding="ascii") as file:
        contents = [_content(line) for line in file]
    reported = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > PROGRESS_INTERVAL_S:
            _answer(answers, {"done": done, "total": total})
            reported = time.monotonic()

    segments = Segments(Path(task["place"]), backbone.config.width)
    embed_into(segments, backbone, adapter, task["dtype"], contents, progress)
    _answer(answers, {"done": len(contents), "total": len(contents)})


def _content(line: str) -> Content:
    text, image = json.loads(line)
    return Content(text, None if image is None else Picture.at(Path(image)))


def _answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
