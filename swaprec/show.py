"""How results look: data on stdout, talk on stderr, tables of 80 columns, JSON when asked."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.answers import Job

WIDTH = 80


def talk() -> Console:
    """Return the console for people, on stderr."""
    return Console(stderr=True, width=min(WIDTH, _columns()), highlight=False, markup=False, emoji=False)


def data() -> Console:
    """Return the console for results, on stdout."""
    return Console(width=min(WIDTH, _columns()), highlight=False, markup=False, emoji=False)


def emit_json(value: Any) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> Table:
    """Build a plain table; `right` names the columns that hold numbers. Cells are text, never markup.

    Only the widest column is ever shortened: an id or a score that is cut is of no use.
    """
    cells = [[Text(str(cell)) for cell in row] for row in rows]
    widths = [max(len(column), *(len(row[place]) for row in cells), 0) for place, column in enumerate(columns)]
    widest = widths.index(max(widths))
    widths[widest] = min(
        widths[widest], max(10, min(WIDTH, _columns()) - sum(widths) + widths[widest] - 2 * len(widths))
    )
    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for place, (column, width) in enumerate(zip(columns, widths, strict=True)):
        side: Literal["left", "right"] = "right" if place in right else "left"
        drawn.add_column(column, justify=side, overflow="ellipsis", no_wrap=True, min_width=width, max_width=width)
    for row in cells:
        drawn.add_row(*row)
    return drawn


def line(strong: str, rest: str = "") -> Text:
    """Write a line that begins with something strong."""
    return Text.assemble((strong, "bold"), rest)


def hanging(strong: str, rest: str, indent: int = 9) -> str:
    """Write a paragraph whose first word stands out to the left."""
    return textwrap.fill(
        rest, min(WIDTH, _columns()), initial_indent=strong.ljust(indent), subsequent_indent=" " * indent
    )


def interval(report: dict[str, float], name: str = "hr") -> str:
    """Write a measure with its 95 % interval."""
    return f"{report[name]:.4f} [{report[f'{name}_low']:.4f}, {report[f'{name}_high']:.4f}]"


def bytes_text(size: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - the unit
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns
    except OSError:
        return WIDTH


def progress(job: Job) -> str:
    """Write how far a job is."""
    share = f" {100 * job['done'] // job['total']} %" if job["total"] else ""
    return (job["stage"] or job["status"]) + share


class JobLines:
    """Prints a line whenever a job comes to another stage or another tenth of it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: set[str] = set()

    def __call__(self, job: Job) -> None:
        """Hear of a step."""
        tenths = f" {10 * job['done'] // job['total'] * 10} %" if job["total"] else ""
        line = f"{job['kind']}: {job['stage'] or job['status']}{tenths}"
        if line not in self._said:
            self._said.add(line)
            self._console.print(line)
