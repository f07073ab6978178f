"""What an import reports: what was not loaded, by kind with an example, and what is odd."""

from __future__ import annotations

from rich.console import Console

from service.wire.responses import ImportReport
from swaprec.errors import REJECTED, USAGE, Stop
from swaprec.row_log import RowLog


def print_report(report: ImportReport, console: Console) -> None:
    """Print what was not stored, one line a kind, and the warnings."""
    for kind in report.get("rejected_kinds", {}).values():
        more = f" (and {kind['count'] - 1:,} more like it)" if kind["count"] > 1 else ""
        named = str(kind["item_id"])
        shown = named if named.isprintable() else repr(named)
        console.print(f"not loaded: row {kind['index']} ({shown}): {kind['detail']}{more}")
    for warning in report.get("warnings", []):
        console.print(f"warning: {warning['detail']}")


def with_unread(report: ImportReport, log: RowLog) -> ImportReport:
    """Return a report that counts the rows of a file that could not be read, too."""
    if not log.rejected_count:
        return report
    kinds = dict(report.get("rejected_kinds", {}))
    for kind, count in log.rejected.counts.items():
        kinds[kind] = {
            "count": count,
            "index": -1,
            "item_id": None,
            "detail": log.rejected.examples[kind],
        }
    total = report["rejected_count"] + log.rejected_count
    return {**report, "rejected_count": total, "rejected_kinds": kinds}


def check_complete(report: ImportReport, what: str) -> None:
    """Check that everything was stored.

    Raises:
        Stop: some rows were rejected; another code where all were.
    """
    stored = report["accepted"] + report["updated"] + report["unchanged"]
    rejected = report["rejected_count"]
    if rejected and not stored:
        all_of_them = "the only row was" if rejected == 1 else f"all {rejected:,} rows were"
        raise Stop(
            f"nothing of {what} was loaded: {all_of_them} rejected",
            "the lines above say why",
            USAGE,
        )
    if rejected:
        raise Stop(
            f"{rejected:,} of {rejected + stored:,} rows of {what} were rejected; the others are"
            " stored",
            "mend them and load them again: what is stored already stays as it is",
            REJECTED,
        )
