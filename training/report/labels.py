"""Names beside points: each stands where it covers
neither another name nor a point, and within the axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

DISTANCES = (6.0, 14.0, 24.0, 36.0, 50.0, 66.0)
"""From the point, in points of 1/72 inch;
from the second on a thin line leads from the name to its point.
"""
DIRECTIONS = (0, 45, -45, 90, -90, 180, 135, -135, 20, -20, 160, -160, 65, -65, 115, -115)
FONT_SIZE = 8
POINT_RADIUS = 4.0
MARGIN = 1.5
LEADER = {"arrowstyle": "-", "color": "#9aa5b1", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}

FREE = 0.5
"""So few pixels are a rounding error."""

Point = tuple[float, float, str]
"""x, y, name."""
Candidate = tuple[Bbox, tuple[float, float], bool]
"""Its box, the offset of the lower left corner in points, and whether a line leads to the point."""


def name_points(figure: Figure, named: Sequence[tuple[Axes, Sequence[Point]]]) -> None:
    """Write the names of all points,
    after everything else is drawn: the layout must not move any more.
    """
    if not isinstance(figure.canvas, FigureCanvasAgg):
        FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    for axis, points in named:
        _name(figure, axis, points)


def _name(figure: Figure, axis: Axes, points: Sequence[Point]) -> None:
    scale = figure.dpi / 72
    places = [tuple(map(float, axis.transData.transform((x, y)))) for x, y, _ in points]
    reach = POINT_RADIUS * scale
    taken = [Bbox.from_extents(x - reach, y - reach, x + reach, y + reach) for x, y in places]
    frame = axis.get_window_extent()
    for place in sorted(range(len(points)), key=lambda number: -places[number][1]):
        x, y, name = points[place]
        width, height = _size(figure, axis, name)
        others = [box for number, box in enumerate(taken) if number != place]
        box, offset, far = _best(_candidates(places[place], width, height, scale), others, frame)
        text = axis.annotate(
            name,
            (x, y),
            xytext=offset,
            textcoords="offset points",
            fontsize=FONT_SIZE,
            ha="left",
            va="bottom",
            arrowprops=LEADER if far else None,
        )
        text.set_in_layout(False)
        taken.append(box)


def _size(figure: Figure, axis: Axes, name: str) -> tuple[float, float]:
    """Return how much a name takes, in pixels."""
    text = axis.text(0, 0, name, fontsize=FONT_SIZE)
    box = text.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    text.remove()
    return box.width, box.height


def _candidates(
    point: Sequence[float], width: float, height: float, scale: float
) -> Iterator[Candidate]:
    """Yield places around a point, the nearest first."""
    for distance in DISTANCES:
        for degrees in DIRECTIONS:
            angle = np.deg2rad(degrees)
            across = float(np.cos(angle))
            up = float(np.sin(angle))
            left = across * distance * scale + (across - 1) * width / 2
            bottom = up * distance * scale + (up - 1) * height / 2
            box = Bbox.from_bounds(point[0] + left, point[1] + bottom, width, height)
            yield box, (left / scale, bottom / scale), distance > DISTANCES[0]


def _best(candidates: Iterator[Candidate], others: Sequence[Bbox], frame: Bbox) -> Candidate:
    """Return the first, nearest candidate that is free;
    where none is, the one that covers least.
    """
    first = next(candidates)
    best = first
    least = np.inf
    for candidate in chain([first], candidates):
        cost = _cost(candidate[0], others, frame)
        if cost < least:
            best = candidate
            least = cost
        if cost < FREE:
            break
    return best


def _cost(box: Bbox, others: Sequence[Bbox], frame: Bbox) -> float:
    """Return how many pixels of a box are not free."""
    padded = Bbox.from_extents(box.x0 - MARGIN, box.y0 - MARGIN, box.x1 + MARGIN, box.y1 + MARGIN)
    covered = sum(_common(padded, other) for other in others)
    return covered + padded.width * padded.height - _common(padded, frame)


def _common(one: Bbox, other: Bbox) -> float:
    common = Bbox.intersection(one, other)
    return 0.0 if common is None else float(common.width * common.height)
