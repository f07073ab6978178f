"""A report as Markdown: tables, signs and the plots beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.figures import format_baseline, format_interval
from training.report.plots import plots
from training.report.rows import Row, Section, baselines, measured_on, own_baselines
from training.report.signs import signs

HEADER = (
    "",
    "HR@10 [95 %]",
    "seeds",
    "NDCG@10",
    "trains",
    "s",
    "s an epoch",
    "MB above floor",
    "TPME",
)


def to_markdown(sections: Sequence[Section], pictures: Path) -> str:
    """Write sections; their plots become SVG files in `pictures`,
    which lies beside the Markdown.
    """
    pictures.mkdir(parents=True, exist_ok=True)
    return "\n".join(line for section in sections for line in _section(section, pictures))


def _section(section: Section, pictures: Path) -> list[str]:
    lines = [f"## {section.title}", "", *([section.question, ""] if section.question else [])]
    if section.commands:
        lines += ["```sh", *section.commands, "```", ""]
    if section.unfinished:
        lines += [
            "Not finished, and in no table:",
            "",
            *(f"- {line}" for line in section.unfinished),
            "",
        ]
    for panel, rows in section.panels.items():
        lines += [*([f"### {panel}", ""] if panel else []), *_table(rows), "", basis(rows), ""]
    found = list(signs(section))
    if found:
        lines += ["Mind:", "", *(f"- {sentence}" for sentence in found), ""]
    for number, (title, svg) in enumerate(plots(section)):
        name = f"{section.id}-{number}.svg"
        (pictures / name).write_text(svg, "utf-8")
        lines += [f"![{title}]({pictures.name}/{name})", ""]
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    head = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    body = ["| " + " | ".join(cells(row)) + " |" for row in rows]
    floor = [
        f"| {format_baseline(name)} | {format_interval(*values)} |" + " |" * (len(HEADER) - 2)
        for name, values in (baselines(rows) | own_baselines(rows)).items()
    ]
    return [*head, *body, *floor]


def cells(row: Row) -> list[str]:
    """Write a row as a table has it."""
    several = " ".join(f"{hr:.4f}" for hr in row.seeds) if len(row.results) > 1 else ""
    timed = all("seconds_an_epoch" in result for result in row.results)
    return [
        row.name,
        format_interval(*row.hr),
        several,
        f"{row.mean('test', 'ndcg'):.4f}",
        f"{row.parameters:,}",
        f"{row.mean('seconds'):.0f}",
        f"{row.mean('seconds_an_epoch'):.2f}" if timed else "",
        f"{row.memory:,.0f}",
        f"{row.tpme:.2f}" if row.tpme is not None else "",
    ]


def basis(rows: Sequence[Row]) -> str:
    """Write what the figures of a panel were measured on, and with which seeds."""
    seeds = sorted({result["seed"] for row in rows for result in row.results})
    listed = ", ".join(map(str, seeds))
    return (
        f"Measured on {' or '.join(measured_on(rows))}; {'seeds' if len(seeds) > 1 else 'seed'}"
        f" {listed}."
    )
