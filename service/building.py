"""`python -m service.building PARENT THREADS`: the process that `service.builder` speaks to."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from adapters_store.bundle import read_bundle
from service.builder import NICE
from service.index import build, use_one_thread
from service.parent import end_with
from service.segments import Segments
from service.vectors import embed_into
from transrec.adapters import Adapter, AdapterSpec
from transrec.backbone import Backbone
from transrec.content import Content, Picture

TELL_EVERY_S = 0.2


def main() -> int:
    """Do tasks until standard input ends."""
    end_with(int(sys.argv[1]))
    os.nice(NICE)
    torch.set_num_threads(int(sys.argv[2]))
    use_one_thread()
    # What a library prints must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    loaded: dict[str, Backbone] = {}
    for line in sys.stdin:
        try:
            task = json.loads(line)
            result = None
            if task["do"] == "index":
                result = _index(task)
            else:
                _embed(task, loaded, answers)
            _answer(answers, {"end": result})
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits must learn of it
            _answer(answers, {"error": f"{type(error).__name__}: {error}"})
    return 0


def _index(task: dict[str, Any]) -> dict[str, Any] | None:
    vectors = np.asarray(np.load(task["vectors"], mmap_mode="r"))[: task["count"]]
    tuned = build(vectors, np.load(task["queries"]), task["source"], Path(task["path"]))
    return None if tuned is None else tuned.to_json()


def _embed(task: dict[str, Any], loaded: dict[str, Backbone], answers: TextIO) -> None:
    folder = task["backbone"]
    backbone = loaded.get(folder) or loaded.setdefault(folder, Backbone.load(folder, "cpu"))
    adapter = None
    if task["bundle"] is not None:
        bundle = read_bundle(Path(task["bundle"]))
        adapter = Adapter.from_tensors(AdapterSpec.parse(bundle.manifest.spec), backbone.shape, bundle.tensors)
    with Path(task["contents"]).open(encoding="ascii") as file:
        contents = [_content(line) for line in file]
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_EVERY_S:
            _answer(answers, {"done": done, "total": total})
            told = time.monotonic()

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
