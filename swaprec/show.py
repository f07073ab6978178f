"""How results look: data on stdout,
talk on stderr, tables as wide as the terminal, JSON when asked.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from service.wire.responses import Job
from swaprec.grid import Grid, plain
from training.figures import format_interval

MIN_COLUMNS = 20
MAX_COLUMNS = 160
UNLIMITED_COLUMNS = 1 << 16
"""Columns where nobody looks: in a pipe or a file each row stays one line."""


def talk() -> Console:
    """Return the console for people, on stderr."""
    return Console(stderr=True, width=width(sys.stderr), highlight=False, markup=False, emoji=False)


def data() -> Console:
    """Return the console for results, on stdout."""
    return Console(width=width(sys.stdout), highlight=False, markup=False, emoji=False)


def width(stream: TextIO) -> int:
    """Return how many columns a stream has:
    what `COLUMNS` says, a terminal's own, without either any number.
    """
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return max(MIN_COLUMNS, int(asked))
    if not stream.isatty():
        return UNLIMITED_COLUMNS
    return max(MIN_COLUMNS, min(MAX_COLUMNS, os.get_terminal_size(stream.fileno()).columns))


def emit_json(value: Any) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()
) -> Grid:
    """Build a plain table; `right` names the columns that hold numbers. Cells are text, never
    markup.

    Nothing is cut: what does not fit is wrapped, and where that does not fit either, each row
    becomes a block.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    return Grid(title, columns, cells, frozenset(right))


def line(strong: str, rest: str = "") -> Text:
    """Write a line that begins with something strong."""
    return Text.assemble((strong, "bold"), rest)


def hanging(strong: str, rest: str, indent: int = 9) -> str:
    """Write a paragraph whose first word stands out to the left."""
    return textwrap.fill(
        rest, width(sys.stdout), initial_indent=strong.ljust(indent), subsequent_indent=" " * indent
    )


def interval(report: dict[str, float], name: str = "hr") -> str:
    """Write a measure with its 95 % interval."""
    return format_interval(report[name], report[f"{name}_low"], report[f"{name}_high"])


def bytes_text(size: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - the unit
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


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


def canary(domain: Mapping[str, Any]) -> str:
    """Say which version is a domain's canary, for how many users, and since when."""
    return f"{domain['canary_version']}, for {canary_share(domain)}"


def canary_share(about: Mapping[str, Any]) -> str:
    """Say how many users a canary answers, and since when."""
    since = about.get("canary_since") or ""
    return f"{about['canary_percent']} % of the users" + (
        f", since {since[:19].replace('T', ' ')}" if since else ""
    )
