"""What came of runs, for people: one page that needs no network, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.report.markdown import to_markdown
from training.report.page import to_html
from training.report.rows import collect

__all__ = ["Written", "write_report"]


@dataclass(frozen=True, slots=True)
class Written:
    """Where a report lies, how many runs it shows,
    and what it says of those that have no result.
    """

    html: Path
    markdown: Path
    runs: int
    unfinished: list[str]


def write_report(folders: Sequence[Path], output: Path) -> Written:
    """Show all runs below folders.

    Args:
        folders: of runs or experiments, at any depth.
        output: folder for `report.html` and `report.md`; plots of the Markdown go to `plots/`.

    Raises:
        FileNotFoundError: there is no result below them.
    """
    sections = collect(folders)
    output.mkdir(parents=True, exist_ok=True)
    html = output / "report.html"
    markdown = output / "report.md"
    html.write_text(to_html(sections), "utf-8")
    markdown.write_text(to_markdown(sections, output / "plots"), "utf-8")
    runs = sum(len(row.results) for section in sections for row in section.rows)
    return Written(
        html, markdown, runs, [line for section in sections for line in section.unfinished]
    )
