from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.bars import BARS
from benchmarks.gpu.sizes import REAL, EncoderSize


def run(out: Path, *options: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Run the benchmark where no GPU is seen; returns its code, its last line and its file."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.stdout, done.stderr
    return (
        done.returncode,
        json.loads(done.stdout.splitlines()[-1]),
        json.loads(out.read_text("utf-8")),
    )


@pytest.mark.slow
def test_a_rehearsal_of_a_section_runs_on_the_cpu(tmp_path: Path) -> None:
    code, last, kept = run(tmp_path / "gpu.json", "--rehearse", "--sections", "serving")
    assert code == 0, kept
    assert set(last) == {"bar", "value", "target", "holds"}
    assert kept["sections"]["serving"]["figures"]["cpu"]["requests_per_s"] > 0


def test_a_section_that_fails_is_written_down(tmp_path: Path) -> None:
    code, last, kept = run(tmp_path / "gpu.json", "--sections", "card")
    assert code == 1
    assert last["value"] == dict.fromkeys(BARS)
    assert not last["holds"]
    assert "no CUDA device" in kept["sections"]["card"]["errors"][0]


def test_the_operations_of_an_encoder_are_those_of_its_products() -> None:
    one_block = EncoderSize(1, 4, 8, 2)
    # At 3 tokens: keys and values, query and output of the first token, its scores and sums, its
    # MLP.
    assert one_block.flops(3) == 2 * (3 * 2 * 16 + 2 * 16 + 2 * 3 * 4 + 2 * 4 * 8)
    whole = EncoderSize(2, 4, 8, 2).flops(3) - one_block.flops(3)
    assert whole == 3 * 2 * (4 * 16 + 2 * 3 * 4 + 2 * 4 * 8)
    # Two operations for each weight of BERT-base's blocks and token, but for its last block's.
    assert REAL.encoders["bert-base"].flops(15) / 15 == pytest.approx(2 * 85e6, rel=0.1)


def test_a_bar_knows_its_direction() -> None:
    assert BARS["titles"].holds(3.0)
    assert not BARS["titles"].holds(2.9)
    assert BARS["activation_s"].holds(14.0)
    assert not BARS["activation_s"].holds(15.1)
    assert not BARS["activation_s"].holds(None)
