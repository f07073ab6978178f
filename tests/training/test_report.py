"""The report, over results that the trainer's own code writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from tests.training.conftest import tiny_log
from training.config import RunConfig
from training.course import Course
from training.data import Dataset, load_dataset
from training.report import write_report
from training.report.markdown import to_markdown
from training.report.page import to_html
from training.report.plots import figures
from training.report.rows import collect
from training.result import write_result
from training.run_file import parse_config

METHODS = (
    *(
        "houlsby",
        "houlsby_parallel",
        "pfeiffer",
        "compacter",
        "k_adapter",
        "lora",
        "prompt",
        "prefix",
    ),
    *("bitfit", "layer_norm", "side", "user_only", "full", "scratch"),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(config_of(tiny_log(tmp_path_factory.mktemp("log")), Path("unused")).data)


def config_of(log: Path, output: Path, **more: Any) -> RunConfig:
    raw = {"stage": "ids", "domain": "walk", "output": str(output), "data": {"folder": str(log)}}
    return parse_config(raw | {"train": {"epochs": 6}} | more)


def hr(value: float, margin: float = 0.02) -> dict[str, float]:
    ends = {"hr_low": value - margin, "hr_high": value + margin}
    return {"hr": value, "ndcg": value / 2, "users": 60, **ends}


def write_run(folder: Path, dataset: Dataset, number: int = 0, seed: int = 0, **facts: Any) -> None:
    """Write a finished run as the trainer does;
    close values, so that names have to be kept apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(folder, folder, seed=seed)
    (folder / "config.json").write_text(config.model_dump_json(), "utf-8")
    value = 0.28 - 0.004 * (number % 5) - 0.06 * (number % 3 == 2)
    epochs = [2.0, 4.0, 6.0]
    curves = {
        "loss": [1.0],
        "epoch": epochs,
        "hr": [value - 0.1, value - 0.03, value],
        "ndcg": [0.1] * 3,
    }
    course = Course(
        epoch=6, seconds=9.0 + number, memory_mb=900.0, memory_floor_mb=300.0, curves=curves
    )
    baselines = {
        "none": hr(0.16),
        "popularity": hr(0.162),
        "recent_popularity": hr(0.167),
        "item_knn": hr(0.31),
    }
    known = {"kind": "houlsby", "parameters": {"total": 10_000 * (1 + number % 4)}, **facts}
    write_result(config, dataset, course, 10.0 + number % 6, hr(value), baselines, known)


def experiment(
    folder: Path,
    dataset: Dataset,
    methods: Sequence[str],
    panels: Sequence[str] = ("films",),
    **more: Any,
) -> Path:
    """Write an experiment whose runs are all finished."""
    runs = []
    for place, panel in enumerate(panels):
        for number, method in enumerate(methods):
            name = f"{panel}-{method}-s0"
            write_run(folder / name, dataset, number + place)
            runs.append({"name": name, "choices": {"source": panel, "method": method}, "seed": 0})
    describe(folder, runs, **more)
    return folder


def describe(folder: Path, runs: Sequence[Mapping[str, Any]], **more: Any) -> None:
    content = {
        "title": "Kinds",
        "question": "Which?",
        "command": "swaprec experiment kinds",
        "sources": [],
    }
    (folder / "experiment.json").write_text(json.dumps({**content, "runs": runs, **more}), "utf-8")


def names_in(figure: Figure) -> list[tuple[Annotation, Bbox]]:
    """The names beside the points of a drawn figure
    and the boxes of their words, without the leaders.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [one for axis in figure.axes for one in axis.texts if isinstance(one, Annotation)]
    return [(one, Text.get_window_extent(one, canvas.get_renderer())) for one in found]


@pytest.mark.parametrize(
    ("count", "panels"),
    [(2, ("films",)), (6, ("films", "instruments", "news")), (14, ("films", "news"))],
)
def test_no_name_covers_another_or_leaves_its_frame(
    tmp_path: Path, dataset: Dataset, count: int, panels: tuple[str, ...]
) -> None:
    (section,) = collect([experiment(tmp_path / "out", dataset, METHODS[:count], panels)])
    drawn = dict(figures(section))
    for title in ("What trains against HR@10", "Time against HR@10"):
        figure = drawn[title]
        found = names_in(figure)
        assert len(found) == count * len(panels)
        for (one, first), (other, second) in combinations(found, 2):
            assert not overlaps(first, second), (title, one.get_text(), other.get_text())
        for one, box in found:
            assert one.axes is not None
            frame = one.axes.get_window_extent()
            assert frame.x0 - 1 <= box.x0, one.get_text()
            assert box.x1 <= frame.x1 + 1, one.get_text()


def overlaps(one: Bbox, other: Bbox) -> bool:
    common = Bbox.intersection(one, other)
    return common is not None and common.width > 1 and common.height > 1


@pytest.mark.parametrize("count", [1, 14])
def test_every_row_lies_whole_within_its_frame_and_each_legend_name_is_written_once(
    tmp_path: Path, dataset: Dataset, count: int
) -> None:
    panels = ("films", "instruments")
    (section,) = collect([experiment(tmp_path / "out", dataset, METHODS[:count], panels)])
    drawn = dict(figures(section))
    intervals = drawn["HR@10 with 95 % intervals over users; lines are baselines"]
    for axis in intervals.axes:
        bottom, top = axis.get_ylim()
        assert (bottom >= count - 0.5, top <= -0.5) == (True, True)
        left, right = axis.get_xlim()
        assert left == 0
        assert right > 0.31, "item-kNN's line and every interval's end are inside"
    for figure in drawn.values():
        assert all(axis.get_legend() is None for axis in figure.axes)
        names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert len(names) == len(set(names))
    assert len(intervals.legends) == 1


def test_runs_without_a_result_are_named_with_how_far_they_came(
    tmp_path: Path, dataset: Dataset
) -> None:
    out = experiment(tmp_path / "out", dataset, METHODS[:2])
    runs = json.loads((out / "experiment.json").read_text("utf-8"))["runs"]
    begun = out / "films-lora-s0"
    failed = out / "films-side-s0"
    for folder in (begun, failed):
        folder.mkdir()
        (folder / "config.json").write_text(config_of(folder, folder).model_dump_json(), "utf-8")
    (begun / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo', "utf-8")
    (failed / "log.txt").write_text(
        "walk: cache\nerror: out of memory in epoch 1: lower train.batch_size\n", "utf-8"
    )
    for method in ("lora", "side", "prompt"):
        runs.append(
            {
                "name": f"films-{method}-s0",
                "choices": {"source": "films", "method": method},
                "seed": 0,
            }
        )
    describe(out, runs, sources=["films"])
    written = write_report([out], tmp_path / "report")
    expected = [
        "sources/films has not begun",
        "films-lora-s0 is not finished: 2 of 6 epochs",
        (
            "films-side-s0 failed after 0 of 6 epochs: out of memory in epoch 1: lower"
            " train.batch_size"
        ),
        "films-prompt-s0 has not begun",
    ]
    assert (written.runs, written.unfinished) == (2, expected)
    html = written.html.read_text("utf-8")
    markdown = written.markdown.read_text("utf-8")
    for line in expected:
        assert line in html
        assert line in markdown
    assert "2 runs, 4 more not finished" in html


def test_loose_runs_are_distinguished_by_their_path_and_unfinished_ones_are_named(
    tmp_path: Path, dataset: Dataset
) -> None:
    for number, name in enumerate(("monday/run", "tuesday/run")):
        write_run(tmp_path / name, dataset, number)
    cut = tmp_path / "wednesday" / "run"
    (cut / "backbone").mkdir(parents=True)
    (cut / "backbone" / "config.json").write_text('{"user": {}}', "utf-8")
    (cut / "config.json").write_text(config_of(cut, cut).model_dump_json(), "utf-8")
    (section,) = collect([tmp_path])
    assert [(row.name, len(row.results)) for row in section.rows] == [
        ("monday/run", 1),
        ("tuesday/run", 1),
    ]
    assert section.unfinished == ["wednesday/run is not finished: 0 of 6 epochs"]


def test_where_no_run_is_finished_the_error_says_how_far_each_came(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(
        config_of(tmp_path, tmp_path).model_dump_json(), "utf-8"
    )
    with pytest.raises(
        FileNotFoundError, match=r"no result\.json below .*run is not finished: 0 of 6 epochs"
    ):
        write_report([tmp_path], tmp_path / "report")


def test_experiments_of_one_title_have_sections_and_pictures_of_their_own(
    tmp_path: Path, dataset: Dataset
) -> None:
    for name in ("first", "second"):
        experiment(tmp_path / "runs" / name, dataset, METHODS[:2])
    # The same folder, named twice, is shown once.
    sections = collect([tmp_path / "runs", tmp_path / "runs" / "first"])
    assert [section.title for section in sections] == ["Kinds (first)", "Kinds (second)"]
    to_markdown(sections, tmp_path / "plots")
    assert len(list((tmp_path / "plots").iterdir())) == 2 * len(list(figures(sections[0])))
    html = to_html(sections)
    assert len({section.id for section in sections}) == 2
    assert all(f'id="{section.id}"' in html for section in sections)


def test_every_command_is_shown_and_each_panel_says_what_it_was_measured_on(
    tmp_path: Path, dataset: Dataset
) -> None:
    commands = ["swaprec experiment kinds --only method=lora", "swaprec experiment kinds --resume"]
    out = experiment(tmp_path / "out", dataset, METHODS[:2], commands=commands)
    written = write_report([out], tmp_path / "report")
    html = written.html.read_text("utf-8")
    markdown = written.markdown.read_text("utf-8")
    basis = f"Measured on 60 users, 40 items, data {dataset.digest[:8]}; seed 0."
    for text in [
        *commands,
        basis,
        "is not better than item-kNN (0.3100) within the 95 % intervals.",
    ]:
        assert text in html
        assert text in markdown


def test_rows_of_different_data_are_said_to_be_incomparable(
    tmp_path: Path, dataset: Dataset
) -> None:
    other = load_dataset(config_of(tiny_log(tmp_path / "other", seed=5), tmp_path).data)
    write_run(tmp_path / "runs" / "one", dataset, 0)
    write_run(tmp_path / "runs" / "two", other, 1)
    html = to_html(collect([tmp_path / "runs"]))
    assert "were measured on different data" in html
    assert other.digest[:8] in html
    assert dataset.digest[:8] in html


def test_a_resumed_run_says_so(tmp_path: Path, dataset: Dataset) -> None:
    write_run(tmp_path / "run", dataset)
    path = tmp_path / "run" / "result.json"
    result = json.loads(path.read_text("utf-8"))
    path.write_text(
        json.dumps(result | {"seconds": 260.0, "stretches": 2, "last_stretch_seconds": 12.0}),
        "utf-8",
    )
    assert "its 260 s are of 2 stretches, the last of 12 s" in to_html(collect([tmp_path]))
