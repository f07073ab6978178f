"""A report as one HTML page: style and plots inside, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from training.figures import format_baseline, format_interval
from training.report.markdown import HEADER, basis, cells
from training.report.plots import plots
from training.report.rows import Section, baselines, own_baselines
from training.report.signs import signs


def to_html(sections: Sequence[Section]) -> str:
    """Write the page."""
    loader = PackageLoader("training.report", ".")
    page = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html")
    commits = {
        result.get("commit", "")[:12]
        for section in sections
        for row in section.rows
        for result in row.results
    }
    return page.render(
        sections=[_section(section) for section in sections],
        header=HEADER,
        commits=sorted(commits - {""}),
        runs=sum(len(row.results) for section in sections for row in section.rows),
        unfinished=sum(len(section.unfinished) for section in sections),
        written_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _section(section: Section) -> dict[str, object]:
    best = {
        panel: max(round(row.hr[0], 4) for row in rows) for panel, rows in section.panels.items()
    }
    return {
        "id": section.id,
        "title": section.title,
        "question": section.question,
        "commands": section.commands,
        "unfinished": section.unfinished,
        "panels": [
            {
                "name": panel,
                "basis": basis(rows),
                "rows": [
                    {
                        "cells": cells(row),
                        "best": round(row.hr[0], 4) == best[panel],
                        "runs": row.commands,
                    }
                    for row in rows
                ],
                "baselines": [
                    (format_baseline(name), format_interval(*hr))
                    for name, hr in (baselines(rows) | own_baselines(rows)).items()
                ],
            }
            for panel, rows in section.panels.items()
        ],
        "signs": list(signs(section)),
        "plots": [(title, Markup(svg)) for title, svg in plots(section)],  # noqa: S704 - our own SVG
    }
