"""What a figure says: its interval, what it was measured on, and whether it beats the baselines.

Pure Python over plain values: trainer, report and command line write their figures with this. The
values may come from a bundle that a stranger made, so whatever is not a number is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

BASELINES = {
    "none": "none",
    "popularity": "popularity",
    "recent_popularity": "recent popularity",
    "item_knn": "item-kNN",
}
"""What any adapter must beat, by its key in `result.json`,
as people read it; `none` is the frozen backbone alone.
"""
SHOWN_DIGEST = 8
PLAUSIBLE_MAX = 10**15
"""What no count of users, items or parameters reaches."""


@dataclass(frozen=True, slots=True)
class Figure:
    """HR@10 with the ends of its 95 % interval over users."""

    value: float
    low: float
    high: float

    @classmethod
    def read(cls, report: object) -> Figure | None:
        """Read a report's HR@10; None where there is none.

        A report without an interval is a point.
        """
        if not isinstance(report, Mapping) or not is_number(report.get("hr")):
            return None
        value = float(report["hr"])
        ends = [report.get(name) for name in ("hr_low", "hr_high")]
        low, high = (float(end) if is_number(end) else value for end in ends)
        return cls(value, low, high)

    def __str__(self) -> str:
        return format_interval(self.value, self.low, self.high)


def format_interval(value: float, low: float, high: float) -> str:
    """Write a measure with its interval."""
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def format_baseline(name: str) -> str:
    """Write a baseline's name for people."""
    return BASELINES.get(name, name.replace("_", " "))


def compare_with_baselines(test: object, baselines: object) -> str:
    """Say in one sentence which baselines a figure does not beat; empty where it beats all of them,
    or knows none.

    A figure is below a baseline where its interval ends before the baseline's begins, and not
    better than one where the two intervals meet.

    Args:
        test: a report with `hr`, `hr_low` and `hr_high`.
        baselines: the same of each baseline, by name.
    """
    figure = Figure.read(test)
    if figure is None or not isinstance(baselines, Mapping):
        return ""
    known = {name: Figure.read(baselines.get(name)) for name in BASELINES}
    found = {name: one for name, one in known.items() if one is not None}
    strongest_first = sorted(found.items(), key=lambda pair: -pair[1].value)
    below = [pair for pair in strongest_first if figure.high < pair[1].low]
    level = [pair for pair in strongest_first if figure.low <= pair[1].high and pair not in below]
    parts = []
    if below:
        parts.append(f"below {_listed(below)}")
    if level:
        parts.append(f"not better than {_listed(level)} within the 95 % intervals")
    return f"HR@10 {figure} is {' and '.join(parts)}." if parts else ""


def describe_basis(
    items: object = None, users: object = None, seed: object = None, data_digest: object = None
) -> str:
    """Write what a figure was measured on:
    catalog, users, seed and data; what is not known is left out.
    """
    parts = [
        f"{float(count):,.0f} {what}"
        for count, what in ((users, "users"), (items, "items"))
        if is_number(count)
    ]
    if is_number(seed):
        parts.append(f"seed {seed}")
    if isinstance(data_digest, str) and data_digest:
        parts.append(f"data {data_digest[:SHOWN_DIGEST]}")
    return ", ".join(parts)


def describe_report(report: Mapping[str, Any]) -> str:
    """Write what the figures of a `result.json` were measured on."""
    data = report.get("data", {})
    return describe_basis(
        data.get("items"), report["test"].get("users"), report.get("seed"), data.get("digest")
    )


def describe_metrics(metrics: Mapping[str, Any], data_digest: str) -> str:
    """Write what the figures of a bundle's manifest were measured on;
    older bundles do not name their items.
    """
    test = metrics.get("test")
    users = test.get("users") if isinstance(test, Mapping) else None
    return describe_basis(metrics.get("items"), users, metrics.get("seed"), data_digest)


def _listed(pairs: list[tuple[str, Figure]]) -> str:
    words = [f"{format_baseline(name)} ({figure.value:.4f})" for name, figure in pairs]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number that a figure or a count may have:
    hundreds of digits would hide everything else.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < PLAUSIBLE_MAX  # not of NaN
