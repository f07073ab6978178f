"""Items from a file of any usual form, one row at a time, as the service takes them."""

from __future__ import annotations

import base64
import difflib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from swaprec.errors import USAGE, Stop
from swaprec.row_files import RowSource, is_table, is_text_table
from swaprec.row_log import RowLog

OWN = (
    "item_id",
    "title",
    "text",
    "image_b64",
    "category",
    "timestamp",
    "popularity",
    "available",
    "attributes",
)
READABLE = ("title", "text", "category")
"""Fields that people read: entities of HTML in them are what a web page left behind."""
ALIASES = {
    "item_id": ("id", "itemid", "productid", "movieid", "articleid", "newsid", "asin", "sku"),
    "available": ("isavailable",),
    "title": ("title", "name", "itemname", "productname", "movietitle", "headline"),
}
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
NULLS = frozenset({"", "nan", "nat", "null", "none", "na", "n/a"})
"""Texts of an empty cell, as data frames, databases and spreadsheets write it."""
_WHOLE = re.compile(r"-?\d+\.0+")
_SCIENTIFIC = re.compile(r"-?\d(\.\d+)?[eE][+-]?\d{1,3}")
"""A number as spreadsheets show a long one; it may be an id all the same, such as a short hash."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


class _Rejected(ValueError):
    """A row that is not sent: its kind, and what was given."""

    def __init__(self, kind: str, given: object) -> None:
        super().__init__(kind)
        self.given = repr(given)[:60]


def read_rows(
    path: Path,
    log: RowLog | None = None,
    *,
    encoding: str = "utf-8",
    columns: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the items of a file as the service takes them; columns that it does not know become
    attributes.

    Args:
        path: a file, a folder with its parts, or - for NDJSON on standard input.
        log: notes what cannot be read.
        encoding: of the file.
        columns: by a field's name the name of the column that is read as it, where that is another.

    Raises:
        Stop: no such file, a form that is not read, text in another encoding, or no row in it.
    """
    log = RowLog() if log is None else log
    source = RowSource.find(path, encoding)
    reader = _RowReader(source, dict(columns or {}), log)
    rows = source.rows(log)
    first = next(rows, None)
    if first is None and not log.rejected_count:
        found = "a header and no rows" if log.names else "nothing"
        raise Stop(f"{path} has {found} in it", "expected items, one a row", USAGE)
    reader.check_names(path)
    return reader.items(rows if first is None else chain([first], rows))


def with_pictures(rows: Iterable[dict[str, Any]], source: Path) -> Iterator[dict[str, Any]]:
    """Add to each row the picture that its column `image` names, from a folder, a zip or an LMDB.

    A row whose picture is missing goes on without it: the service says what it lacks.

    Raises:
        Stop: there is no such folder, zip or LMDB, or a picture in it cannot be read.
    """
    from training.pictures import Pictures
    from transrec.images import ImageError

    try:
        pictures = Pictures(source)
        for row in rows:
            name = row.get("attributes", {}).pop("image", None)
            picture = pictures.find(str(name)) if name else None
            yield (
                row
                if picture is None
                else row | {"image_b64": base64.b64encode(picture.read()).decode()}
            )
    except ImageError as error:
        raise Stop(
            str(error),
            "give a folder, a zip or an LMDB with the pictures that the column image names",
            USAGE,
        ) from error


def parse_columns(given: Iterable[str]) -> dict[str, str]:
    """Read FIELD=COLUMN, any number of them.

    Raises:
        Stop: one of them is of another form.
    """
    columns: dict[str, str] = {}
    for one in given:
        field, _, column = one.partition("=")
        if not field or not column:
            raise Stop(
                f"--column {one}: expected FIELD=COLUMN", "for example --column title=Title", USAGE
            )
        columns[field.strip()] = column.strip()
    return columns


def hints(log: RowLog) -> list[str]:
    """Say which columns may be fields of the API under another name."""
    names = [name for name in log.names if name not in log.columns.values()]
    return [
        f"column {near} is an attribute: --column {field}={near} reads it as the item's {field}"
        for field in OWN
        if field not in log.names and field not in log.columns and (near := _near(field, names))
    ]


class _RowReader:
    """Makes items of rows."""

    def __init__(self, source: RowSource, columns: dict[str, str], log: RowLog) -> None:
        self._source = source
        self._columns = log.columns = columns
        self._fields = {column: field for field, column in columns.items()}
        self._log = log
        self._whole_ids = False
        self._scientific = ""

    def check_names(self, path: Path) -> None:
        """Check a table's header, and whether its ids are whole numbers with a point.

        Raises:
            Stop: there is no column of ids, or none of a name that was given.
        """
        if not is_table(self._source):
            return
        names = self._log.names
        wanted = [self._columns.get("item_id", "item_id"), *self._columns.values()]
        missing = [name for name in dict.fromkeys(wanted) if name not in names]
        if missing:
            near = _near("item_id", names) if missing == ["item_id"] else _like(missing[0], names)
            field = self._fields.get(missing[0], "item_id")
            hint = f"--column {field}={near or 'COLUMN'} reads another column as {field}"
            raise Stop(
                f"{path} has no column {', '.join(missing)}; it has {', '.join(list(names)[:30])}",
                hint,
                USAGE,
            )
        if is_text_table(self._source):
            self._whole_ids = self._are_whole(self._columns.get("item_id", "item_id"))

    def _are_whole(self, column: str) -> bool:
        """Whether every id looks like 1.0:
        a column of numbers that had a gap, as data frames write it.
        """
        ids = (str(row.get(column, "")).strip() for _, row in self._source.rows(RowLog()))
        return all(map(_WHOLE.fullmatch, ids))

    def items(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
        """Yield the items of rows; a row that is none is rejected."""
        for place, row in rows:
            self._log.read += 1
            try:
                item = self._item(row)
            except _Rejected as error:
                self._log.reject(str(error), f"{place} has {error.given}")
            else:
                if isinstance(item_id := item.get("item_id"), str):
                    self._log.check_repeated(item_id, place)
                yield item

    def _item(self, row: Mapping[str, Any]) -> dict[str, Any]:
        named = {self._fields.get(name.strip(), name.strip()): value for name, value in row.items()}
        named |= {field: row[column] for field, column in self._columns.items() if column in row}
        given = {
            name: None if isinstance(value, str) and not value else value
            for name, value in named.items()
        }
        item = {name: given[name] for name in OWN if name in given}
        others = {name: value for name, value in given.items() if name not in OWN}
        if "item_id" in item:
            item["item_id"] = self._id(item["item_id"])
        for name in READABLE:
            if name in item:
                item[name] = _unescaped(item[name])
        if "popularity" in item:
            item["popularity"] = _popularity(item["popularity"])
        if "available" in item:
            item["available"] = _available(item["available"])
        if "attributes" in item or others:
            item["attributes"] = {**_attributes(item.get("attributes", {})), **others}
        return item

    def _id(self, value: Any) -> Any:
        if value is None:
            raise _Rejected("item_id: expected an id, got none", value)
        if isinstance(value, str) and is_text_table(self._source):
            value = value.strip()
        whole = self._whole_ids and isinstance(value, str)
        if whole or (isinstance(value, float) and value.is_integer()):
            self._log.note(
                "ids are numbers with a point, such as 1.0: they are read without it, as 1"
            )
            return value.partition(".")[0] if isinstance(value, str) else str(int(value))
        if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
            self._scientific = self._scientific or value
            self._log.note(
                f"ids look like numbers in scientific notation, such as {self._scientific}: they"
                " are kept as they are; if a spreadsheet wrote them, digits are lost: export the"
                " column as text"
            )
        return value


def _unescaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_unescaped(one) for one in value]
    if isinstance(value, str) and "&" in value:
        return _ENTITY.sub(lambda found: html.unescape(found.group()), value)
    return value


def _popularity(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.strip().casefold() in NULLS:
        return None
    try:
        return float(value)
    except ValueError:
        return value  # the service names the row


def _available(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip().casefold()
    if text in NULLS:
        return None
    found = TRUTH.get(text)
    if found is None and _WHOLE.fullmatch(text):
        found = TRUTH.get(text.partition(".")[0])  # spreadsheets and data frames write 1 as 1.0
    if found is None:
        raise _Rejected("available: expected true, false, 1, 0, yes or no", value)
    return found


def _attributes(value: Any) -> dict[str, Any]:
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except ValueError:
            found = value
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _Rejected("attributes: expected a JSON object", value)
    return found


def _near(field: str, names: Iterable[str]) -> str | None:
    """Return the column that is most likely a field under another name."""
    plain = {_casefold(name): name for name in names if name not in OWN}
    for alias in (_casefold(field), *ALIASES.get(field, ())):
        if alias in plain:
            return plain[alias]
    found = difflib.get_close_matches(_casefold(field), plain, 1, 0.85)
    return plain[found[0]] if found else None


def _like(name: str, names: Iterable[str]) -> str | None:
    plain = {_casefold(one): one for one in names}
    found = difflib.get_close_matches(_casefold(name), plain, 1, 0.6)
    return plain[found[0]] if found else None


def _casefold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
