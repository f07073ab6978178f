"""Some thousand rows of an import become items: what a row does not name stays as it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.content.import_rows import INVALID, RowProblem, RowReport
from service.content.item_reader import ItemReader, ItemRow
from service.state import Items, StoredItem
from transrec.coverage import MANY_UNKNOWN

NumberedRows = Sequence[tuple[int, ItemRow]]

MAX_SAMPLE = 2000
SAMPLE_OF_BATCH = 200


class Merge:
    """Rows on their way into a catalog become items.

    Args:
        state: with what is stored already.
        domain: whose items.
        item_reader: of its backbone.
        rows: with their numbers, as they came; of equal ids a later one changes what an earlier one
            made.
        replaces: what a row does not name has its default.
    """

    def __init__(
        self,
        state: Items,
        domain: str,
        item_reader: ItemReader,
        rows: NumberedRows,
        *,
        replaces: bool,
    ) -> None:
        self._state = state
        self._domain = domain
        self._item_reader = item_reader
        self._rows = rows
        self._replaces = replaces
        self._before: dict[str, StoredItem] = {}
        self._items: dict[str, StoredItem] = {}
        self._taken: dict[str, list[ItemRow]] = {}
        self._rejected: list[tuple[int, ItemRow, ValueError]] = []

    @property
    def items(self) -> list[StoredItem]:
        """The items that the rows make, each once."""
        return list(self._items.values())

    def read(self) -> None:
        """Read what is stored, and make items of it and of the rows; may be done again."""
        self._before = self._stored([row.item_id for _, row in self._rows])
        self._items = {}
        self._taken = {}
        self._rejected = []
        for index, row in self._rows:
            before = self._items.get(row.item_id, self._before.get(row.item_id))
            try:
                self._items[row.item_id] = self._made(row, before)
            except ValueError as error:
                self._rejected.append((index, row, error))
            else:
                self._taken.setdefault(row.item_id, []).append(row)

    def report_rejected(self, report: RowReport) -> None:
        """Report the rows of which no item can be made, in the order of all rejected rows."""
        for index, row, error in self._rejected:
            report.reject(index, row.item_id, INVALID, RowProblem.of(error))
        if self._rejected:
            report.rejected.sort(key=lambda rejected: rejected["index"])

    def renewed(self, items: Sequence[StoredItem]) -> list[StoredItem]:
        """Return items as they are to be stored now:
        embedding took a while, and others may have changed them.
        """
        now = self._stored([item.item_id for item in items])
        return [self._renewed(item, now.get(item.item_id)) for item in items]

    def _renewed(self, item: StoredItem, now: StoredItem | None) -> StoredItem:
        if now == self._before.get(item.item_id):
            return item
        try:
            for row in self._taken[item.item_id]:
                now = self._made(row, now)
        except ValueError:  # it was deleted: the rows alone do not make an item of it
            return item
        return now or item

    def _made(self, row: ItemRow, before: StoredItem | None) -> StoredItem:
        return self._item_reader.merged(row, None if self._replaces else before)

    def _stored(self, ids: Sequence[str]) -> dict[str, StoredItem]:
        if self._replaces or not ids:
            return {}
        return self._state.items_by_id(self._domain, list(dict.fromkeys(ids)))


class UnknownTokens:
    """Looks at some texts of an import for what the tokenizer does not know."""

    def __init__(self, item_reader: ItemReader) -> None:
        self._item_reader = item_reader
        self._texts: list[str] = []
        self._example = ""

    def add(self, items: Sequence[StoredItem]) -> None:
        """Take some items of a batch into the sample."""
        room = min(SAMPLE_OF_BATCH, MAX_SAMPLE - len(self._texts))
        step = max(1, len(items) // max(room, 1))
        chosen = [item for item in items[::step] if item.text][:room]
        self._texts += [item.text for item in chosen]
        if chosen and not self._example:
            self._example = chosen[0].item_id

    def warnings(self) -> list[dict[str, Any]]:
        """Say so, where it is much."""
        share = self._item_reader.unknown_share(self._texts)
        if share < MANY_UNKNOWN:
            return []
        detail = (
            f"{share:.0%} of the tokens of these texts are unknown to the backbone's tokenizer,"
            f" such as in item {self._example!r}: it was not made for their language or script, and"
            " different items look the same to the model; choose a backbone that reads it"
        )
        return [{"code": "unknown_tokens", "detail": detail, "share": round(share, 4)}]
