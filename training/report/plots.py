"""The plots of a section, as SVG: what is compared stands in one picture, on one scale."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from training.report.rows import Row, Section, baselines
from training.report.signs import capacities

mpl.use("Agg")
INK, GRID, MARK = "#1f2933", "#e4e7eb", "#0b6e99"
NARROW = 100
"""Within this ratio a logarithmic axis needs more numbers than the powers of ten."""
CLOSE, LINE = 2.0, 0.03
"""Points within this ratio and this difference would have their names on top of each other."""
COLOURS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#9f6b53", "#cb912f", "#787774", "#d44c47", "#337ea9")
_plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
LINES = {"none": ":", "popularity": "--", "recent_popularity": "-.", "item_knn": "-"}
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
    with mpl.rc_context(STYLE):
        yield "HR@10 with 95 % intervals over users; lines are baselines", _intervals(section)
        if len({row.parameters for row in section.rows}) > 1:
            yield "What trains against HR@10", _against(section, "trained parameters", lambda row: row.parameters)
        if len(section.rows) > 1:
            yield "Time against HR@10", _against(section, "seconds", lambda row: row.mean("seconds"))
        sweep = [rows for rows in section.panels.values() if len(capacities(rows)) > 2]  # noqa: PLR2004 - a curve
        if sweep:
            yield "Hidden size against HR@10", _capacity(sweep)
        yield "Validation HR@10 while training", _curves(section)


def _intervals(section: Section) -> str:
    panels = section.panels
    heights = [len(rows) + 1 for rows in panels.values()]
    figure = Figure(figsize=(8, 0.26 * sum(heights) + 0.55 * len(heights) + 0.3), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, (panel, rows) in zip(axes, panels.items(), strict=True):
        for place, row in enumerate(rows):
            hr, low, high = row.hr
            axis.plot([low, high], [place, place], color=MARK, linewidth=2, solid_capstyle="round")
            axis.plot(row.seeds, [place] * len(row.seeds), "|", color=INK, markersize=6)
            axis.plot(hr, place, "o", color=MARK, markersize=6)
        for (name, (hr, _, _)), colour in zip(baselines(rows).items(), COLOURS[1:], strict=False):
            axis.axvline(hr, color=colour, linestyle=LINES[name], linewidth=1.2, label=name.replace("_", " "))
        axis.set(yticks=range(len(rows)), yticklabels=[row.name for row in rows], title=panel)
        axis.invert_yaxis()
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1].set_xlim(left=0)
    axes[-1].set_xlabel("HR@10")
    return _svg(figure)


def _against(section: Section, label: str, value: Callable[[Row], float]) -> str:
    figure, axes = _panels(section)
    for axis, (panel, rows) in zip(axes, section.panels.items(), strict=True):
        for row in rows:
            hr, low, high = row.hr
            axis.errorbar(
                max(value(row), 1e-3),
                hr,
                yerr=[[max(0, hr - low)], [max(0, high - hr)]],
                fmt="o",
                color=MARK,
                ecolor="#9cc7d9",
            )
        _name_points(axis, [(max(value(row), 1e-3), row.hr[0], row.name) for row in rows])
        axis.set(xscale="log", xlabel=label, ylabel="HR@10", title=panel)
        _name_points(axis, [(max(value(row), 1e-3), row.hr[0], row.name) for row in rows])
        reach = [max(value(row), 1e-3) for row in rows]
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(reach) < NARROW * min(reach) else (1,)))
        axis.xaxis.set_major_formatter(_plain)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.margins(x=0.15)
    axes[0].set_ylim(bottom=0)  # of all of them, and not before all is drawn: it ends the scaling
    return _svg(figure)


def _name_points(axis: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write names beside points; of two that lie close together the second one's stands below."""
    named: list[tuple[float, float]] = []
    for x, y, name in sorted(points):
        close = any(x < CLOSE * other_x and abs(y - other_y) < LINE for other_x, other_y in named)
        place: dict[str, Any] = {"xytext": (5, -11)} if close else {"xytext": (5, 4)}
        axis.annotate(name, (x, y), textcoords="offset points", fontsize=8, **place)
        named.append((x, y))


def _capacity(sweep: Sequence[Sequence[Row]]) -> str:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for rows, colour in zip(sweep, COLOURS, strict=False):
        ordered = sorted(zip([size for size, _ in capacities(rows)], rows, strict=True), key=lambda pair: pair[0])
        sizes = [size for size, _ in ordered]
        lows, highs = [row.hr[1] for _, row in ordered], [row.hr[2] for _, row in ordered]
        axis.fill_between(sizes, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axis.plot(sizes, [row.hr[0] for _, row in ordered], "o-", color=colour, label=rows[0].panel or None)
    axis.set(xscale="log", xlabel="hidden size of the item side", ylabel="HR@10", xticks=sizes, xticklabels=sizes)
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    return _svg(figure)


def _curves(section: Section) -> str:
    figure, axes = _panels(section)
    for axis, (panel, rows) in zip(axes, section.panels.items(), strict=True):
        for number, row in enumerate(rows):
            curves = [result["curves"] for result in row.results]
            shortest = min(len(curve["hr"]) for curve in curves)
            mean = np.mean([curve["hr"][:shortest] for curve in curves], 0)
            axis.plot(
                curves[0]["epoch"][:shortest],
                mean,
                "-" if number < len(COLOURS) else "--",
                color=COLOURS[number % len(COLOURS)],
                label=row.name,
                linewidth=1.4,
            )
        axis.set(xlabel="epoch", ylabel="HR@10", title=panel)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[0].set_ylim(bottom=0)
    return _svg(figure)


def _panels(section: Section) -> tuple[Figure, Sequence[Axes]]:
    """A grid of as many axes as a section has panels, two a line."""
    count = len(section.panels)
    wide = min(2, count)
    tall = -(-count // wide)
    figure = Figure(figsize=(4.9 * wide, 3.0 * tall), layout="constrained")
    grid = figure.subplots(tall, wide, squeeze=False, sharey=True).ravel()
    for axis in grid[count:]:
        axis.set_visible(False)
    return figure, list(grid[:count])


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    return text[text.index("<svg") :]
