"""Times of a log: numbers, or dates in text whose form the whole column decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import polars as pl
from polars.exceptions import PolarsError

from training.importers.tables import DataError

ReadTimes = Callable[[pl.Series], pl.Series]
"""Makes times that sort as times; what is none becomes null."""

_ISO = r"^\s*\d{4}[-/.]?\d{2}"
_OTHER = r"^\s*(\d{1,2})([/.-])(\d{1,2})[/.-]\d{4}(?:\D|$)"
"""A date that begins with its day or its month."""

_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S%.f",
    " %I:%M %p",
    " %I:%M:%S %p",
    " %I:%M:%S%.f %p",
)
_MAX_MONTH = 12
_ISO_FORMS = 4
_HINT = 'say which with --time-format "%d/%m/%Y %H:%M", or time_format under [data]'


def has_times(given: pl.Series) -> bool:
    """Return whether any time is given."""
    given = given.drop_nulls()
    return bool((given.str.strip_chars() != "").any() if given.dtype == pl.String else given.len())


def time_reader(given: pl.Series, form: str = "") -> ReadTimes:
    """Choose how to read a log's times by its first chunk.

    Args:
        given: times of the first chunk, some of which are given.
        form: of times in text, such as `%d/%m/%Y %H:%M`; without it the texts decide.

    Raises:
        DataError: nobody can read them, or they can be read in two ways.
    """
    kind = given.dtype
    if kind.is_float() or kind == pl.Null:
        return _numbers
    if kind.is_integer() or kind.is_decimal() or kind in (pl.Datetime, pl.Date):
        return lambda times: times
    if kind != pl.String:
        raise DataError(
            f"timestamp has the type {kind}: expected numbers, dates, or text of either"
        )
    read = _in_form(form) if form else _of_texts(given.str.strip_chars())
    texts = given.filter((given.str.strip_chars() != "").fill_null(value=False))
    if read(texts).null_count() == texts.len():
        expected = (
            f"times of the form {form}" if form else "numbers or ISO dates (2024-05-01 12:30:00)"
        )
        hint = "" if form else "; --time-format or time_format under [data] names another form"
        raise DataError(f"timestamp is text such as {texts[0][:60]!r}: expected {expected}{hint}")
    return read


def check_form(form: str) -> None:
    """Check a form of times.

    Raises:
        ValueError: it is none, or holds no date.
    """
    example = pl.Series([datetime(2024, 11, 23, 20, 30, tzinfo=UTC)])
    try:
        known = _parsed(example.dt.strftime(form), form)[0].date() == example[0].date()
    except (PolarsError, AttributeError):
        known = False
    if not known:
        raise ValueError(f"{form!r} is no form of dates: expected one such as %d/%m/%Y %H:%M")


def _of_texts(given: pl.Series) -> ReadTimes:
    if given.str.contains(_OTHER).sum() > given.str.contains(_ISO).sum():
        return _day_and_month(given)
    return min((_numbers, _iso_dates), key=lambda read: read(given).null_count())


def _day_and_month(given: pl.Series) -> ReadTimes:
    """Decide by the numbers above 12 whether the day or the month comes first; it is never guessed.

    Raises:
        DataError: there are none, or they contradict each other.
    """
    parts = given.str.extract_groups(_OTHER).struct
    first, mark, second = (parts.field(str(place)) for place in (1, 2, 3))
    day_first = given.filter((first.cast(pl.Int64) > _MAX_MONTH).fill_null(value=False))
    month_first = given.filter((second.cast(pl.Int64) > _MAX_MONTH).fill_null(value=False))
    both = f"{given.drop_nulls()[0]!r} can be day/month or month/day"
    if day_first.len() and month_first.len():
        raise DataError(
            f"timestamp: {day_first[0]!r} has the day first, {month_first[0]!r} the month: the"
            " times have no one form"
        )
    if not day_first.len() and not month_first.len():
        raise DataError(f"timestamp: {both}, and no row decides it: {_HINT}")
    separator = mark.drop_nulls()[0]
    date = separator.join(["%d", "%m", "%Y"] if day_first.len() else ["%m", "%d", "%Y"])
    return _in_forms([f"{date}{clock}" for clock in _CLOCKS])


def _in_form(form: str) -> ReadTimes:
    return _in_forms([form])


def _in_forms(forms: Sequence[str]) -> ReadTimes:
    def read(times: pl.Series) -> pl.Series:
        texts = times.str.strip_chars()
        found = _nothing(texts)
        for form in forms:
            if found.null_count() == texts.null_count():
                break
            found = found.zip_with(found.is_not_null(), _parsed(texts, form))
        return found

    return read


def _parsed(texts: pl.Series, form: str) -> pl.Series:
    return _without_zone(texts.str.to_datetime(form, strict=False, time_unit="us"))


def _numbers(times: pl.Series) -> pl.Series:
    if times.dtype == pl.String:
        times = times.str.strip_chars()
    return times.cast(pl.Float64, strict=False).replace(
        [float("inf"), float("-inf"), float("nan")], None
    )


def _iso_dates(texts: pl.Series) -> pl.Series:
    texts = texts.str.strip_chars()
    left = texts.zip_with(
        texts.str.contains(_ISO).fill_null(value=False), pl.Series([None], dtype=pl.String)
    )
    found = _nothing(texts)
    # Dates alone, with a time, with a zone: polars infers one form at a time.
    for _ in range(_ISO_FORMS):
        try:
            read = _without_zone(left.str.to_datetime(strict=False, time_unit="us"))
        except PolarsError:  # no form of a date was recognised
            break
        found = found.zip_with(found.is_not_null(), read)
        left = left.zip_with(found.is_null(), pl.Series([None], dtype=pl.String))
        if left.null_count() == left.len():
            break
    return found


def _nothing(times: pl.Series) -> pl.Series:
    return pl.Series(times.name, [None], pl.Datetime("us")).new_from_index(0, times.len())


def _without_zone(times: pl.Series) -> pl.Series:
    zone = times.dtype.time_zone if isinstance(times.dtype, pl.Datetime) else None
    return times.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else times
