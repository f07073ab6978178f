"""Items on their way to a service:
a line of NDJSON each; what cannot be sent is reported with what was refused.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from service.wire.responses import ImportReport, RejectedKind, RejectedRow
from swaprec.cells import CellError, json_row

R = TypeVar("R", RejectedRow, RejectedKind)
RowFields = Mapping[str, Any]
ItemRows = Iterable[RowFields]
AsyncItemRows = ItemRows | AsyncIterable[RowFields]

CHUNK_ROWS = 500
MAX_LISTED = 1000
MAX_ID = 256
MAX_DETAIL = 1000
UNSENDABLE = "unsendable_row"


class Sending:
    """Writes rows as NDJSON, and remembers which ones it had to leave out.

    Raises:
        TypeError: what is given holds no rows.
    """

    def __init__(self, rows: object) -> None:
        _check(rows)
        self._rows = rows
        self._count = 0
        self._left_out = array("q")
        self._listed: list[RejectedRow] = []

    def chunks(self) -> Iterator[bytes]:
        """Yield the rows, some hundred lines at a time."""
        lines: list[bytes] = []
        for row in cast("Iterable[Any]", self._rows):
            lines += self._line(row)
            if len(lines) >= CHUNK_ROWS:
                yield b"".join(lines)
                lines.clear()
        yield b"".join(lines)

    async def chunks_async(self) -> AsyncIterator[bytes]:
        """Yield the rows, also of an iterator that is asynchronous;
        of such a one a line at a time.
        """
        if isinstance(self._rows, AsyncIterable):
            async for row in self._rows:
                for line in self._line(row):
                    yield line
        else:
            for chunk in self.chunks():
                yield chunk

    def complete(self, report: ImportReport) -> ImportReport:
        """Return a service's report with the rows that were not sent:
        all rows are counted as they were given.
        """
        if not self._left_out:
            return report
        refused = [self._renumbered(row) for row in report["rejected"]]
        listed = sorted([*refused, *self._listed], key=lambda row: row["index"])
        first = self._listed[0]
        kind = {"index": first["index"], "item_id": first["item_id"], "detail": first["detail"]}
        mine = cast("RejectedKind", {"count": len(self._left_out), **kind})
        theirs = {
            name: self._renumbered(one) for name, one in report.get("rejected_kinds", {}).items()
        }
        return {
            **report,
            "rejected_count": report["rejected_count"] + len(self._left_out),
            "rejected": listed[:MAX_LISTED],
            "rejected_kinds": {**theirs, UNSENDABLE: mine},
        }

    def _line(self, row: Any) -> list[bytes]:
        """Return the line of a row, or none."""
        number = self._count
        self._count += 1
        try:
            return [json.dumps(json_row(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"]
        except (CellError, ValueError) as error:
            self._leave_out(number, row, str(error))
            return []

    def _leave_out(self, number: int, row: Any, why: str) -> None:
        self._left_out.append(number)
        if len(self._listed) < MAX_LISTED:
            item_id = row.get("item_id") if isinstance(row, Mapping) else None
            shown = str(item_id)[:MAX_ID] if isinstance(item_id, str | int) else None
            self._listed.append(
                {"index": number, "item_id": shown, "code": UNSENDABLE, "detail": why[:MAX_DETAIL]}
            )

    def _renumbered(self, row: R) -> R:
        return cast("R", {**row, "index": self._given(row["index"])})

    def _given(self, sent: int) -> int:
        """Return the number, among the rows that were given,
        of a row by its number among those that were sent.
        """
        low = sent
        high = sent + len(self._left_out)
        while low < high:
            middle = (low + high) // 2
            if middle + 1 - bisect_right(self._left_out, middle) > sent:
                high = middle
            else:
                low = middle + 1
        return low


def _check(rows: object) -> None:
    hints = {"to_dicts": ".to_dicts()", "to_dict": '.to_dict("records")'}
    for method, hint in hints.items():
        if hasattr(rows, method) and hasattr(rows, "columns"):
            raise TypeError(f"items: a data frame is no iterable of rows: give its {hint}")
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable | AsyncIterable):
        raise TypeError(
            "items: expected rows such as [{'item_id': …, 'title': …}], got"
            f" {type(rows).__name__}"
        )
