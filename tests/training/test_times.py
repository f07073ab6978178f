"""Times in text are read in the form that the whole column has;
what is ambiguous is refused, not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from training.importers.tables import DataError
from training.run_file import ConfigError, parse_config
from training.times import check_form, time_reader


def read(times: Sequence[str | None], form: str = "") -> list[str | None]:
    given = pl.Series("timestamp", times, pl.String)
    found = time_reader(given, form)(given)
    return [one.isoformat(" ") if isinstance(one, datetime) else one for one in found]


def test_a_day_above_twelve_decides_for_the_whole_column() -> None:
    assert read(["13/01/2024", " 1/2/2024 10:05", None]) == [
        "2024-01-13 00:00:00",
        "2024-02-01 10:05:00",
        None,
    ]
    assert read(["01/13/2024", "1/2/2024 10:05:09"]) == [
        "2024-01-13 00:00:00",
        "2024-01-02 10:05:09",
    ]
    assert read(["31.12.2024", "01.02.2024"]) == ["2024-12-31 00:00:00", "2024-02-01 00:00:00"]
    assert read(["1-31-2024", "never"]) == ["2024-01-31 00:00:00", None]


def test_times_before_and_after_noon_are_read() -> None:
    times = ["01/13/2024 10:00 PM", "02/03/2024 12:00:30 AM", "1/2/2024 1:05 am"]
    assert read(times) == ["2024-01-13 22:00:00", "2024-02-03 00:00:30", "2024-01-02 01:05:00"]


@pytest.mark.parametrize(
    "times", [["01/12/2024 10:00", "02/03/2024 11:00"], ["01/12/2024"], ["1.2.2024 1:00 PM"]]
)
def test_what_can_be_day_or_month_is_refused_until_a_form_is_given(times: list[str]) -> None:
    with pytest.raises(
        DataError, match=r"can be day/month or month/day, and no row decides it: .*--time-format"
    ):
        read(times)


def test_rows_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(DataError, match="'13/01/2024' has the day first, '01/13/2024' the month"):
        read(["13/01/2024", "01/13/2024"])


def test_a_form_that_is_given_decides() -> None:
    assert read(["01/12/2024", "02/03/2024"], "%m/%d/%Y") == [
        "2024-01-12 00:00:00",
        "2024-02-03 00:00:00",
    ]
    assert read(["01/12/2024", "x"], "%d/%m/%Y") == ["2024-12-01 00:00:00", None]
    assert read(["5 Jan 24 10:00 +0200"], "%d %b %y %H:%M %z") == ["2024-01-05 08:00:00"]
    with pytest.raises(
        DataError, match="text such as '2024-01-12': expected times of the form %d/%m/%Y"
    ):
        read(["2024-01-12"], "%d/%m/%Y")


def test_iso_dates_of_several_forms_are_read() -> None:
    times = [
        "x",
        "2024-01-02",
        "2024-01-02T10:00:00Z",
        "2024-01-02 10:00",
        "2024-01-02 10:00:00.5",
        "01/02/2024",
    ]
    days = [
        "2024-01-02 00:00:00",
        "2024-01-02 10:00:00",
        "2024-01-02 10:00:00",
        "2024-01-02 10:00:00.500000",
    ]
    assert read(times) == [None, *days, None]


@pytest.mark.parametrize("form", ["%H:%M", "%Y", "dd/mm/yyyy", "%Q", "%"])
def test_a_form_that_gives_no_date_is_refused(form: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no form of dates: expected one such as %d/%m/%Y"):
        check_form(form)
    data = {"folder": str(tmp_path), "time_format": form, "columns": {"title": ""}}
    raw = {"stage": "ids", "output": str(tmp_path), "data": data}
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "data.columns",
        "data.time_format",
    ]
