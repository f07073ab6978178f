"""Section: titles per second of the item encoder against sentence-transformers, and its share of
the peak.

Both read the same checkpoint of random weights and the same titles, in bfloat16, from text to
vectors in the CPU's memory. sentence-transformers runs at the best of several batch sizes; runs are
interleaved.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.gpu.peak import measure_peak
from benchmarks.gpu.random_encoder import checkpoint, draw_titles, load
from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.setup import Setup, gpu_fast, guarded
from benchmarks.gpu.sizes import MAX_TOKENS, EncoderSize
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.embed import embed
from transrec.gpu import GPU_FAST
from transrec.inputs import TextInputs
from transrec.text_encoder import Tokens

BATCHES = (32, 128, 512, 1024)
"""Batch sizes of sentence-transformers; its default is the first one."""
COMPARED = 64
FORWARD_LENGTH = 16
"""Tokens of a text where the forward is timed alone."""
FORWARD_RUNS = 10
PACKED_TITLES = (1024, 2048, 4096)
RESERVED_S = 8.0

Step = Callable[[], object]


def measure(setup: Setup, report: SectionReport) -> None:
    """Measure the peak, then each encoder."""
    peak = measure_peak(setup)
    report.figure("peak_tflops", peak / 1e12)
    report.row(f"bf16 product of {setup.sizes.peak}³", f"{peak / 1e12:.0f} TFLOP/s")
    for number, name in enumerate(setup.sizes.encoders):
        share = (setup.left_s - RESERVED_S) / (len(setup.sizes.encoders) - number)
        with guarded(report, name):
            _measure_one(setup, report, name, peak, time.monotonic() + share)


def _measure_one(setup: Setup, report: SectionReport, name: str, peak: float, ends: float) -> None:
    size = setup.sizes.encoders[name]
    titles = draw_titles(setup.sizes.titles, setup.sizes.vocabulary, 1)
    backbone = load(setup, name)
    tokens = np.array([len(row) for row in backbone.tokenize(titles)])
    flops = sum(size.flops(int(one)) for one in tokens)
    report.figure(f"{name}_tokens_a_title", float(tokens.mean()))
    with guarded(report, f"{name}, forward alone"):
        _time_forwards(setup, report, name, backbone, size, peak)
    ours = _timed(setup, lambda: embed(backbone, titles, dtype="bfloat16"))
    report.figure(f"{name}_first_run_s", ours())
    with guarded(report, f"{name}, sentence-transformers"):
        theirs = _Theirs(setup, name)
        report.figure(f"{name}_theirs_dtype", theirs.dtype)
        report.figure(f"{name}_cosine_min", _least_cosine(backbone, theirs, titles[:COMPARED]))
        cosine = _least_cosine(backbone, theirs, titles[:COMPARED], packed=True)
        report.figure(f"{name}_cosine_min_packed", cosine)
        batch = theirs.tune(setup, report, titles[: len(titles) // 4], name)
        encode = _timed(setup, lambda: theirs.encode(titles, batch))
        _compare(setup, report, name, titles, (ours, encode), ends)
        _measure_without_cudnn(report, name, len(titles), encode)
        with gpu_fast():
            ours()
            _compare(setup, report, f"{name}, {GPU_FAST}=1", titles, (ours, encode), ends)
    seconds = [ours() for _ in range(3)]
    rate = len(titles) / statistics.median(seconds)
    achieved = flops / statistics.median(seconds)
    report.figure(f"{name}_titles_per_s", rate)
    report.figure(f"{name}_share_of_peak", achieved / peak)
    report.figure(
        f"{name}_tokenize_share", _tokenize_s(backbone, titles) / statistics.median(seconds)
    )
    report.row(f"{name}: ours", f"{rate:,.0f} titles/s, {achieved / peak:.1%} of the peak")
    if name == setup.sizes.main:
        report.bar("peak_share", achieved / peak)
    with guarded(report, f"{name}, {GPU_FAST}=1"), gpu_fast():
        seconds = [ours() for _ in range(3)]
        rate = len(titles) / statistics.median(seconds)
        achieved = flops / statistics.median(seconds)
        report.figure(f"{name}_fast", {"titles_per_s": rate, "share_of_peak": achieved / peak})
        report.row(
            f"{name}, {GPU_FAST}=1: ours",
            f"{rate:,.0f} titles/s, {achieved / peak:.1%} of the peak",
        )
    with guarded(report, f"{name}, packed forward"):
        _time_packed(setup, report, name, backbone, titles, (flops, peak))


def _compare(
    setup: Setup,
    report: SectionReport,
    name: str,
    titles: Sequence[str],
    runs: tuple[Callable[[], float], ...],
    ends: float,
) -> None:
    """Run both in turns until the rounds or the time are over."""
    pairs: list[tuple[float, float]] = []
    while len(pairs) < setup.sizes.rounds and (
        not pairs or time.monotonic() + sum(pairs[-1]) < ends
    ):
        ours, theirs = (run() for run in runs)
        pairs.append((ours, theirs))
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    value = statistics.median(ratios)
    rate = len(titles) / statistics.median(theirs for _, theirs in pairs)
    report.figure(f"{name}_ratios", ratios)
    report.figure(f"{name}_theirs_titles_per_s", rate)
    report.row(f"{name}: sentence-transformers", f"{rate:,.0f} titles/s")
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}, {len(pairs)} pairs"
    report.row(f"{name}: ours / sentence-transformers", f"{value:.2f} ({spread})")
    if name == setup.sizes.main:
        report.bar("titles", value)


def _measure_without_cudnn(
    report: SectionReport, name: str, titles: int, theirs: Callable[[], float]
) -> None:
    """Measure sentence-transformers without cuDNN's attention,
    which plans anew for every shape of a batch.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    try:
        rate = titles / min(theirs(), theirs())
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled=before)
    report.figure(f"{name}_theirs_titles_per_s_without_cudnn_attention", rate)
    report.row(f"{name}: sentence-transformers, without cuDNN's attention", f"{rate:,.0f} titles/s")


def _time_forwards(
    setup: Setup,
    report: SectionReport,
    name: str,
    backbone: Backbone,
    size: EncoderSize,
    peak: float,
) -> None:
    """Time the encoder's forward on ids that lie on the device, by tokens of a batch."""
    encoder = backbone.item_encoder("bfloat16")
    for tokens in setup.sizes.forward_tokens:
        rows = tokens // FORWARD_LENGTH
        ids = torch.randint(5, setup.sizes.vocabulary, (rows, FORWARD_LENGTH), device=setup.device)
        with torch.inference_mode():
            run = _timed(setup, lambda ids=ids: [encoder(Tokens(ids)) for _ in range(FORWARD_RUNS)])  # type: ignore[misc]
            run()
            seconds = statistics.median(run() for _ in range(3)) / FORWARD_RUNS
        share = rows * size.flops(FORWARD_LENGTH) / seconds / peak
        report.figure(f"{name}_forward_{tokens}", {"ms": 1000 * seconds, "share_of_peak": share})
        report.row(
            f"{name}: forward alone, {tokens:,} tokens",
            f"{1000 * seconds:.2f} ms, {share:.1%} of the peak",
        )


def _time_packed(
    setup: Setup,
    report: SectionReport,
    name: str,
    backbone: Backbone,
    titles: Sequence[str],
    scale: tuple[float, float],
) -> None:
    """Time the forward alone over all titles,
    packed as they are embedded, their tokens on the device.
    """
    encoder = backbone.item_encoder("bfloat16")
    inputs = backbone.inputs([Content(title) for title in titles])
    assert isinstance(inputs, TextInputs)  # noqa: S101 - the checkpoint has one text
    flops, peak = scale
    for size in PACKED_TITLES:
        chunks = np.array_split(np.arange(len(titles)), max(1, len(titles) // size))
        parts = [inputs.packed(places, backbone.device) for places in chunks]
        with torch.inference_mode():
            run = _timed(setup, lambda parts=parts: [encoder(part) for part in parts])  # type: ignore[misc]
            run()
            seconds = statistics.median(run() for _ in range(3))
        report.figure(
            f"{name}_packed_{size}", {"s": seconds, "share_of_peak": flops / seconds / peak}
        )
        report.row(
            f"{name}: packed forward alone, {size:,} titles a batch",
            f"{flops / seconds / peak:.1%} of the peak",
        )


def _timed(setup: Setup, run: Step) -> Callable[[], float]:
    """Return a function that runs once and returns the seconds it took."""

    def timed() -> float:
        setup.synchronize()
        started = time.perf_counter()
        run()
        setup.synchronize()
        return time.perf_counter() - started

    return timed


def _tokenize_s(backbone: Backbone, titles: Sequence[str]) -> float:
    started = time.perf_counter()
    backbone.tokenize(titles)
    return time.perf_counter() - started


def _least_cosine(
    backbone: Backbone, theirs: _Theirs, titles: Sequence[str], *, packed: bool = False
) -> float:
    """Return the least cosine between the two encoders' vectors: that both are the same model."""
    inputs = backbone.inputs([Content(title) for title in titles])
    assert isinstance(inputs, TextInputs)  # noqa: S101 - the checkpoint has one text
    places = np.arange(len(titles), dtype=np.int64)
    with torch.inference_mode():
        batch = (inputs.packed if packed else inputs.padded)(places, backbone.device)
        own = backbone.item_encoder("bfloat16")(batch, None)
    return float(F.cosine_similarity(own.float().cpu(), theirs.encode(titles, COMPARED)).min())


class _Theirs:
    """sentence-transformers on the same checkpoint, in bfloat16, with CLS pooling."""

    def __init__(self, setup: Setup, name: str) -> None:
        library = import_module("sentence_transformers")
        modules = import_module("sentence_transformers.sentence_transformer.modules")
        folder = str(checkpoint(setup, name))
        kwargs = {"dtype": torch.bfloat16}
        transformer = modules.Transformer(folder, max_seq_length=MAX_TOKENS, model_kwargs=kwargs)
        pooling = modules.Pooling(setup.sizes.encoders[name].hidden, "cls")
        self._model: Any = library.SentenceTransformer(
            modules=[transformer, pooling], device=setup.device
        )
        self.dtype = str(next(self._model.parameters()).dtype)

    def encode(self, titles: Sequence[str], batch: int) -> torch.Tensor:
        """Return vectors [n, H] in the CPU's memory, float32."""
        found: torch.Tensor = self._model.encode(
            list(titles), batch_size=batch, convert_to_tensor=True, show_progress_bar=False
        )
        return found.float().cpu()

    def tune(self, setup: Setup, report: SectionReport, titles: Sequence[str], name: str) -> int:
        """Return the fastest batch size."""
        self.encode(titles[:COMPARED], COMPARED)
        rates = {}
        for batch in BATCHES:
            seconds = _timed(setup, lambda batch=batch: self.encode(titles, batch))()  # type: ignore[misc]
            rates[batch] = len(titles) / seconds
        report.figure(f"{name}_theirs_by_batch", rates)
        shown = ", ".join(f"{batch}: {rate:,.0f}" for batch, rate in rates.items())
        report.row(f"{name}: sentence-transformers by batch", f"{shown} titles/s")
        return max(rates, key=lambda batch: rates[batch])
