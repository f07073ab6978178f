"""Memory and speed of an import that grows: `python -m benchmarks.import_log`.

Writes logs of a tenth and of all of `--rows` generated interactions in MovieLens's form
(`ratings.csv`) or as JSON lines of Amazon reviews, imports each in a process of its own, and
compares the peaks of memory: bounded means that ten times the rows need hardly more.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

ITEMS = 100_000
BLOCK_ROWS = 1_000_000
TARGET = 1.25
"""Peak memory of all rows over that of a tenth."""


def generate(folder: Path, form: str, rows: int) -> None:
    """Write a log of popular and rare items, a catalog beside it."""
    folder.mkdir()
    ids = np.arange(1, ITEMS + 1)
    if form == "movielens":
        catalog = pl.DataFrame(
            {"movieId": ids, "title": [f"Film {n}" for n in ids], "genres": "Drama"}
        )
        catalog.write_csv(folder / "movies.csv")
    else:
        catalog = pl.DataFrame(
            {"parent_asin": [f"B{n}" for n in ids], "title": [f"Item {n}" for n in ids]}
        )
        catalog.write_ndjson(folder / "meta_log.jsonl")
    rng = np.random.default_rng(0)
    with (folder / ("ratings.csv" if form == "movielens" else "log.jsonl")).open("wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            frame = _block(rng, start, min(BLOCK_ROWS, rows - start))
            if form == "movielens":
                frame.write_csv(file, include_header=start == 0)
            else:
                frame.select(
                    pl.format("A{}", "userId").alias("user_id"),
                    pl.format("B{}", "movieId").alias("parent_asin"),
                    pl.col("rating"),
                    (pl.col("timestamp") * 1000).alias("timestamp"),
                ).write_ndjson(file)


def _block(rng: np.random.Generator, start: int, count: int) -> pl.DataFrame:
    items = (ITEMS * rng.random(count) ** 3).astype(np.int64) + 1  # a long tail
    users = np.sort((start + rng.integers(0, count, count)) // 50)
    ratings = rng.integers(1, 11, count) / 2
    times = 1_000_000_000 + rng.integers(0, 500_000_000, count)
    return pl.DataFrame({"userId": users, "movieId": items, "rating": ratings, "timestamp": times})


def imported(form: str, folder: Path) -> tuple[float, float, int]:
    """Import in a process of its own; returns seconds, peak memory in MB, and interactions."""
    line = [sys.executable, "-m", "benchmarks.import_log", "--form", form, "--import", str(folder)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    seconds, peak, count = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak, count


def bring_in(form: str, folder: Path) -> None:
    """Import here; print seconds, peak memory in MB, and interactions."""
    from training.cleaning import clean
    from training.importers import canonical, read_tables

    started = time.perf_counter()
    counts = canonical.write(clean(read_tables(form, folder)), folder / "canonical")
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            [
                seconds,
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                counts["interactions"],
            ]
        )
    )


def main() -> None:
    """Measure, and print the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--form", choices=["movielens", "amazon"], default="movielens")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the logs are written (4 GB); a temporary folder without it",
    )
    parser.add_argument("--import", dest="bring_in", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bring_in is not None:
        bring_in(given.form, given.bring_in)
        return
    peaks = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for rows in (given.rows // 10, given.rows):
            log = Path(folder) / str(rows)
            generate(log, given.form, rows)
            size = sum(path.stat().st_size for path in log.iterdir()) / 2**20
            seconds, peak, count = imported(given.form, log)
            print(
                f"{count:,} rows of {size:,.0f} MB: {seconds:.1f} s, {count / seconds:,.0f} rows/s,"
                f" peak {peak:,.0f} MB"
            )
            peaks.append(peak)
            shutil.rmtree(log)
    value = round(peaks[1] / peaks[0], 3)
    bar = (
        f"peak memory of importing {given.rows:,} rows ({given.form}) over that of a tenth of them"
    )
    print(json.dumps({"bar": bar, "value": value, "target": TARGET, "holds": value <= TARGET}))
    sys.exit(0 if value <= TARGET else 1)


if __name__ == "__main__":
    main()
