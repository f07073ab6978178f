"""Dropping, and counting, what no run could use:
rows without ids, titles or times, strange items, repeated rows.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.entities import html5

import polars as pl

from adapters_store.names import MAX_ID_BYTES
from training.importers.tables import DataError, Tables
from training.rejections import NAMELESS, OF_NAMELESS, Rejections
from training.times import ReadTimes, has_times, time_reader

MOSTLY = 0.5

STRANGE = "interaction with an item that the catalog lacks"
REPEATED = "interaction that stands there twice"
_WHOLE = r"^-?\d+\.0+$"
_SCIENTIFIC = r"^-?\d(\.\d+)?[eE][+-]?\d{1,3}$"
"""A number as spreadsheets show a long one; it may be an id all the same, such as a short hash."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


UNUSABLE_ID = f"item id with control characters or over {MAX_ID_BYTES} bytes"
_CONTROL = r"[\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]"
"""What no id holds, in the syntax of polars; texts of a log have no surrogates."""


def clean(tables: Tables, time_format: str = "", *, keep_duplicates: bool = False) -> Tables:
    """Keep items with an id and a title or an image, and interactions with a user, an item of these
    and a time.

    Ids lose the blanks around them, and the `.0` of a column of whole floats. Timestamps become
    numbers or dates: text is never compared as text. What is dropped is counted in `rejected`.

    Args:
        tables: as read.
        time_format: form of times in text, such as `%d/%m/%Y %H:%M`; without it the times decide.
        keep_duplicates: keep interactions of one user, item and time that stand in a chunk twice.

    Raises:
        DataError: no item or no interaction that could be used, timestamps that nobody can read, or
            a log most of whose items the catalog lacks.
    """
    rejected = tables.rejected
    given = tables.items.with_columns(_stripped("item_id"))
    items = _clean_items(given, rejected)
    log = tables.chunks()
    if not items.height:
        raise _nothing_left(given, log, rejected)
    left_out = given.filter(pl.col("item_id").is_in(items["item_id"].implode()).not_())[
        "item_id"
    ].unique()
    cleaner = _Log(
        items["item_id"].implode(), left_out.implode(), rejected, time_format, keep_duplicates
    )
    return Tables(items, cleaner.chunks(log), rejected)


def _clean_items(items: pl.DataFrame, rejected: Rejections) -> pl.DataFrame:
    items = items.with_columns(pl.col("title").fill_null("").str.strip_chars())
    _note_scientific(items["item_id"], rejected)
    items = items.with_columns(
        _whole_ids(items["item_id"], rejected), _decoded(items["title"], rejected)
    )
    items = _without(items, _blank("item_id"), "item without an id", "title", rejected)
    items = _without(items, _unusable("item_id"), UNUSABLE_ID, "title", rejected)
    nameless = _blank("title") & (
        _blank("image") if "image" in items.columns else pl.lit(value=True)
    )
    items = _without(items, nameless, NAMELESS, "item_id", rejected)
    alike = pl.struct("item_id", "title").is_first_distinct().not_()
    items = _without(items, alike, "item that stands there twice", "item_id", rejected, noted=True)
    again = pl.col("item_id").is_first_distinct().not_()
    return _without(items, again, "item id that occurred before", "item_id", rejected)


def _unusable(column: str) -> pl.Expr:
    """Whether an id is one that the service refuses:
    no run should train on what cannot be published.
    """
    text = pl.col(column).str
    return text.contains(_CONTROL) | (text.len_bytes() > MAX_ID_BYTES)


class _Log:
    """Cleans a log chunk by chunk, and refuses it at its end where little of it was of use.

    Args:
        known: ids of the catalog's items, in one list.
        left_out: ids of items that the cleaning of the catalog dropped.
        rejected: what is dropped is counted here.
        time_format: form of times in text, empty where they decide.
        keep_duplicates: keep interactions that stand there twice.
    """

    def __init__(
        self,
        known: pl.Series,
        left_out: pl.Series,
        rejected: Rejections,
        time_format: str,
        keep_duplicates: bool,
    ) -> None:
        self._known = known
        self._left_out = left_out
        self._rejected = rejected
        self._time_format = time_format
        self._keep_duplicates = keep_duplicates
        self._times: ReadTimes | None = None
        self._whole: list[str] = []
        self._last = pl.DataFrame()
        self._rows = 0
        self._complete = 0
        self._strange = 0
        self._example = ""
        self._kept = 0

    def chunks(self, log: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield what can be used.

        Raises:
            DataError: nothing can, or most items are none of the catalog's.
        """
        for chunk in log:
            if chunk.height:
                self._rows += chunk.height
                cleaned = self._once(self._of_catalog(self._complete_rows(self._with_times(chunk))))
                self._kept += cleaned.height
                if cleaned.height:
                    yield cleaned
        self._check()

    def _with_times(self, chunk: pl.DataFrame) -> pl.DataFrame:
        """Read ids without blanks and as whole numbers, and times, as the first chunk shows how."""
        chunk = chunk.with_columns(_stripped("user_id"), _stripped("item_id"))
        for name in ("user_id", "item_id"):
            _note_scientific(chunk[name], self._rejected)
        if not has_times(chunk["timestamp"]):
            return chunk.with_columns(pl.lit(None).alias("timestamp"))
        if self._times is None:
            self._times = time_reader(chunk["timestamp"], self._time_format)
            self._whole = [name for name in ("user_id", "item_id") if _is_whole(chunk[name])]
        for name in self._whole:
            ids = chunk[name]
            taken = ids.is_in(self._known) if name == "item_id" else pl.Series([False])
            chunk = chunk.with_columns(_whole_ids(ids, self._rejected, taken))
        chunk = chunk.with_columns(self._known_without_point(chunk["item_id"]))
        return chunk.with_columns(self._times(chunk["timestamp"]))

    def _known_without_point(self, ids: pl.Series) -> pl.Series:
        """Read `7.0` as `7` where the catalog has only the latter: one of several files that were
        joined held floats.
        """
        if not ids.str.contains(_WHOLE).any():
            return ids
        read = ids.str.replace(r"\.0+$", "")
        meant = read.is_in(self._known) & ~ids.is_in(self._known)
        return _whole_ids(ids, self._rejected, ~meant)

    def _complete_rows(self, log: pl.DataFrame) -> pl.DataFrame:
        """Keep rows with a user, an item and a time."""
        bad = {
            "interaction without a user": (_blank("user_id"), "item_id"),
            "interaction without an item": (_blank("item_id"), "user_id"),
            "interaction without a usable timestamp": (pl.col("timestamp").is_null(), "user_id"),
        }
        if log.select(pl.any_horizontal(one for one, _ in bad.values()).any()).item():
            for kind, (one, shown) in bad.items():
                log = _without(log, one, kind, shown, self._rejected)
        self._complete += log.height
        return log

    def _of_catalog(self, log: pl.DataFrame) -> pl.DataFrame:
        """Keep rows whose item is in the catalog."""
        known = log["item_id"].is_in(self._known)
        if known.all():
            return log
        strange = log.filter(~known)
        left_out = strange["item_id"].is_in(self._left_out)
        self._rejected.add(
            OF_NAMELESS, int(left_out.sum()), strange["item_id"].filter(left_out).first()
        )
        strange = strange.filter(~left_out)
        self._strange += strange.height
        if strange.height:
            self._example = self._example or str(strange["item_id"][0])
        self._rejected.add(STRANGE, strange.height, strange["item_id"].first())
        return log.filter(known)

    def _once(self, log: pl.DataFrame) -> pl.DataFrame:
        """Drop rows that stand in this chunk twice, or were the last of the one before."""
        if self._keep_duplicates or not log.height:
            return log
        rows = pl.struct("user_id", "item_id", "timestamp")
        again = 0
        if self._last.height and log.row(0) == self._last.row(0):
            log = self._last.vstack(log)
            again = 1
        self._last = log.tail(1)
        if not again and log.select(rows.hash().n_unique()).item() == log.height:
            return log
        once = log.filter(rows.is_first_distinct())
        example = log.filter(rows.is_first_distinct().not_())
        self._rejected.note(
            REPEATED, log.height - once.height, f"{example['user_id'][0]}, {example['item_id'][0]}"
        )
        return once[again:]

    def _check(self) -> None:
        if not self._rows:
            raise DataError("the log holds no interactions, at most a header")
        if self._strange > MOSTLY * self._complete:
            raise DataError(
                f"{self._strange} of {self._complete} interactions name items that the catalog"
                f" lacks (for example {self._example[:60]}): is this the catalog of this log?"
            )
        if not self._kept:
            raise DataError(
                f"none of the {self._rows} interactions can be used{_most(self._rejected)}"
            )


def _nothing_left(
    items: pl.DataFrame, log: Iterator[pl.DataFrame], rejected: Rejections
) -> DataError:
    """Return the error of a catalog of no use, with that of an empty log."""
    problem = f"none of the {items.height} items can be used{_most(rejected)}"
    problem = problem if items.height else "the catalog holds no items, at most a header"
    if not any(chunk.height for chunk in log):
        problem += "; the log holds no interactions, at most a header"
    return DataError(problem)


def _most(rejected: Rejections) -> str:
    kind = max(rejected.counts, key=rejected.counts.__getitem__, default="")
    return f": most often {kind}, for example {rejected.examples[kind]}" if kind else ""


def _stripped(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.strip_chars()


def _is_whole(ids: pl.Series) -> bool:
    """Return whether all ids are written as whole floats:
    a column of numbers with gaps becomes one of floats.
    """
    given = ids.filter(ids != "")
    return given.len() > 0 and bool(given.str.contains(_WHOLE).all())


def _whole_ids(ids: pl.Series, rejected: Rejections, taken: pl.Series | None = None) -> pl.Series:
    """Read `7.0` as `7`, where all of a catalog's ids are such;
    ids that are `taken` stay as they are.
    """
    if taken is None and not _is_whole(ids):
        return ids
    read = ids.str.replace(r"\.0+$", "")
    if taken is not None:
        read = ids.zip_with(taken.fill_null(value=False), read)
    changed = ids.filter((ids != read).fill_null(value=False))
    example = f"{changed[0]} is read as {changed[0].partition('.')[0]}" if changed.len() else ""
    rejected.note(f"{ids.name} that is written as a whole float", changed.len(), example)
    return read


def _note_scientific(ids: pl.Series, rejected: Rejections) -> None:
    """Note ids such as `1.23E+11`: they stay as they are, and digits of them may be lost."""
    found = ids.filter(ids.str.contains(_SCIENTIFIC).fill_null(value=False))
    kind = (
        f"{ids.name} that looks like a number in scientific notation: it is kept as it is; if a"
        " spreadsheet wrote "
    )
    kind += "it, digits are lost: export the column as text"
    rejected.note(kind, found.len(), found.first())


def _decoded(titles: pl.Series, rejected: Rejections) -> pl.Series:
    """Decode the HTML entities of titles, such as `&amp;`."""
    encoded = titles.str.contains(r"&[#0-9A-Za-z]+;")
    if not encoded.any():
        return titles
    found = titles.filter(encoded)
    rejected.note("title with HTML entities, which are decoded", found.len(), found[0])
    read = [_ENTITY.sub(_character, title) for title in found]
    return titles.scatter(encoded.arg_true(), read)


def _character(entity: re.Match[str]) -> str:
    """Return what an entity stands for; one of no known name stays as it is."""
    known = entity[0].startswith("&#") or entity[0][1:] in html5
    return html.unescape(entity[0]) if known else entity[0]


def _blank(column: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.strip_chars() == ""


def _without(
    frame: pl.DataFrame,
    bad: pl.Expr,
    kind: str,
    shown: str,
    rejected: Rejections,
    *,
    noted: bool = False,
) -> pl.DataFrame:
    lost = frame.filter(bad)
    count = rejected.note if noted else rejected.add
    count(kind, lost.height, lost[shown][0] if lost.height else "")
    return frame.filter(bad.not_())
