"""The plots of a section, as SVG: what is compared stands in one picture, on one scale."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from training.figures import format_baseline
from training.report.labels import name_points
from training.report.rows import Row, Section, baselines
from training.report.signs import capacities

mpl.use("Agg")
INK, GRID, MARK = "#1f2933", "#e4e7eb", "#0b6e99"
NARROW = 100
CLOSE = 5
"""Within the first ratio an axis needs more numbers than powers of ten,
within the second evenly spaced ones.
"""
CROWDED = 6
"""So many names fit a panel of the usual height."""
DASHES = ("-", "--", ":")
COLOURS = (
    "#0b6e99",
    "#d9730d",
    "#448361",
    "#9065b0",
    "#c14c8a",
    "#9f6b53",
    "#cb912f",
    "#787774",
    "#d44c47",
    "#337ea9",
)
_plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 100 else f"{value:g}")  # noqa: PLR2004
LINES = {
    "none": (":", "#d9730d"),
    "popularity": ("--", "#448361"),
    "recent_popularity": ("-.", "#9065b0"),
    "item_knn": ("-", "#c14c8a"),
}
"""Style and colour of each baseline's line, the same in every panel."""
STYLE: Any = {  # matplotlib types its settings by name
    "axes.edgecolor": "#9aa5b1",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "swaprec",
    "text.color": INK,
}


def plots(section: Section) -> Iterator[tuple[str, str]]:
    """Yield (title, SVG) of everything that a section has the numbers for."""
    for title, figure in figures(section):
        yield title, _svg(figure)


def figures(section: Section) -> Iterator[tuple[str, Figure]]:
    """Yield (title, figure) of everything that a section has the numbers for."""
    if not section.rows:
        return
    with mpl.rc_context(STYLE):
        yield "HR@10 with 95 % intervals over users; lines are baselines", _intervals(section)
        if len({row.parameters for row in section.rows}) > 1:
            yield (
                "What trains against HR@10",
                _against(section, "trained parameters", lambda row: row.parameters),
            )
        if len(section.rows) > 1:
            yield (
                "Time against HR@10",
                _against(section, "seconds", lambda row: row.mean("seconds")),
            )
        sweep = [rows for rows in section.panels.values() if len(capacities(rows)) > 2]  # noqa: PLR2004 - a curve
        if sweep:
            yield "Hidden size against HR@10", _capacity(sweep)
        yield "Validation HR@10 while training", _curves(section)


def _intervals(section: Section) -> Figure:
    panels = section.panels
    heights = [len(rows) + 1 for rows in panels.values()]
    figure = Figure(
        figsize=(8, 0.26 * sum(heights) + 0.55 * len(heights) + 0.6), layout="constrained"
    )
    axes = list(
        figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    )
    for axis, (panel, rows) in zip(axes, panels.items(), strict=True):
        for place, row in enumerate(rows):
            hr, low, high = row.hr
            axis.plot([low, high], [place, place], color=MARK, linewidth=2, solid_capstyle="round")
            axis.plot(row.seeds, [place] * len(row.seeds), "|", color=INK, markersize=6)
            axis.plot(hr, place, "o", color=MARK, markersize=6)
        for name, (hr, _, _) in baselines(rows).items():
            style, colour = LINES[name]
            axis.axvline(
                hr, color=colour, linestyle=style, linewidth=1.2, label=format_baseline(name)
            )
        axis.set(yticks=range(len(rows)), yticklabels=[row.name for row in rows], title=panel)
        # A whole row is inside the frame, the first one on top.
        axis.set_ylim(len(rows) - 0.4, -0.6)
    _start_at_zero(axes, "x")
    axes[-1].set_xlabel("HR@10")
    _one_legend(figure, axes)
    return figure


def _against(section: Section, label: str, value: Callable[[Row], float]) -> Figure:
    figure, axes = _panels(section)
    named = []
    for axis, (panel, rows) in zip(axes, section.panels.items(), strict=True):
        points = [(max(value(row), 1e-3), row.hr[0], row.name) for row in rows]
        for (x, hr, _), row in zip(points, rows, strict=True):
            below = max(0, hr - row.hr[1])
            above = max(0, row.hr[2] - hr)
            axis.errorbar(x, hr, yerr=[[below], [above]], fmt="o", color=MARK, ecolor="#9cc7d9")
        axis.set(xscale="log", xlabel=label, title=panel)
        _number_axis(axis, [x for x, _, _ in points])
        named.append((axis, points))
    _start_at_zero(axes, "y")
    name_points(figure, named)
    return figure


def _number_axis(axis: Axes, values: Sequence[float]) -> None:
    """Set numbers and ends of a logarithmic axis, with room for names on both sides."""
    low = min(values)
    high = max(values)
    if high < CLOSE * low:
        axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    else:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < NARROW * low else (1,)))
    axis.xaxis.set_major_formatter(_plain)
    axis.xaxis.set_minor_formatter(NullFormatter())
    room = max(1.4, (high / low) ** 0.18)
    axis.set_xlim(low / room, high * room)


def _start_at_zero(axes: Sequence[Axes], side: Literal["x", "y"]) -> None:
    """Begin a shared scale at zero and end it above all that is drawn;
    not before all is: it ends the scaling.
    """
    tops = [getattr(axis.dataLim, f"{side}1") for axis in axes]
    ends = {
        "left" if side == "x" else "bottom": 0.0,
        "right" if side == "x" else "top": 1.06 * max(*tops, 1e-3),
    }
    for axis in axes:
        getattr(axis, f"set_{side}lim")(**ends)


def _one_legend(figure: Figure, axes: Sequence[Axes], columns: int = 4) -> None:
    """Write each name once, below all panels."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if handles:
        names = list(handles)
        figure.legend(
            list(handles.values()), names, loc="outside lower left", ncols=min(columns, len(names))
        )


def _capacity(sweep: Sequence[Sequence[Row]]) -> Figure:
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    every: set[int] = set()
    for rows, colour in zip(sweep, COLOURS, strict=False):
        ordered = sorted(
            zip([size for size, _ in capacities(rows)], rows, strict=True), key=lambda pair: pair[0]
        )
        sizes = [size for size, _ in ordered]
        every |= set(sizes)
        lows = [row.hr[1] for _, row in ordered]
        highs = [row.hr[2] for _, row in ordered]
        axis.fill_between(sizes, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axis.plot(
            sizes,
            [row.hr[0] for _, row in ordered],
            "o-",
            color=colour,
            label=rows[0].panel or None,
        )
    ticks = sorted(every)
    axis.set(
        xscale="log",
        xlabel="hidden size of the item side",
        ylabel="HR@10",
        xticks=ticks,
        xticklabels=ticks,
    )
    axis.minorticks_off()
    _start_at_zero([axis], "y")
    _one_legend(figure, [axis], columns=2)
    return figure


def _curves(section: Section) -> Figure:
    figure, axes = _panels(section)
    names = list(dict.fromkeys(row.name for row in section.rows))
    for axis, (panel, rows) in zip(axes, section.panels.items(), strict=True):
        for row in rows:
            number = names.index(row.name)
            curves = [result["curves"] for result in row.results]
            shortest = min(len(curve["hr"]) for curve in curves)
            mean = np.mean([curve["hr"][:shortest] for curve in curves], 0)
            axis.plot(
                curves[0]["epoch"][:shortest],
                mean,
                DASHES[number // len(COLOURS) % len(DASHES)],
                color=COLOURS[number % len(COLOURS)],
                label=row.name,
                linewidth=1.4,
                # One validation is a point, which no line shows.
                marker="o" if shortest == 1 else None,
            )
        axis.set(xlabel="epoch", title=panel)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _start_at_zero(axes, "y")
    _one_legend(figure, axes, columns=3 if len(axes) == 1 else 6)
    return figure


def _panels(section: Section) -> tuple[Figure, Sequence[Axes]]:
    """A grid of as many axes as a section has panels, two a line."""
    count = len(section.panels)
    most = max(map(len, section.panels.values()))
    wide = min(2, count)
    tall = -(-count // wide)
    # Many rows need room for their names.
    height = 3.0 + 0.12 * max(0, most - CROWDED)
    figure = Figure(figsize=(5.6 if wide == 1 else 9.8, height * tall + 0.5), layout="constrained")
    grid = figure.subplots(tall, wide, squeeze=False, sharey=True).ravel()
    for axis in grid[count:]:
        axis.set_visible(False)
    for axis in grid[::wide]:
        axis.set_ylabel("HR@10")
    return figure, list(grid[:count])


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    return text[text.index("<svg") :]
