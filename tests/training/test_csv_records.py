"""Records of CSV, for catalogs that are loaded and logs that are imported:
a wrong quote costs its own record.
"""

from __future__ import annotations

import io

import pytest

from training.csv_records import Dialect, read_records

PLAIN = Dialect()


def read(
    text: str, dialect: Dialect = PLAIN, width: int | None = None
) -> list[tuple[int, list[str] | None]]:
    found = read_records(iter(io.StringIO(text, newline="\n")), dialect, width=width)
    return [(number, fields) for number, _, fields in found]


def test_an_inch_sign_before_a_text_of_two_lines_does_not_cost_the_record() -> None:
    assert read('1,6" board,"two\nlines"\n2,x,y\n') == [
        (1, ["1", '6" board', "two\nlines"]),
        (3, ["2", "x", "y"]),
    ]


def test_a_quote_that_closes_by_chance_swallows_no_record_where_the_width_is_known() -> None:
    text = '1,"open\n2,x",y\n3,z\n'
    assert read(text) == [(1, ["1", "open\n2,x", "y"]), (3, ["3", "z"])]
    assert read(text, width=2) == [(1, None), (2, ["2", 'x"', "y"]), (3, ["3", "z"])]


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (Dialect(), [["1", " a"], ["2", "b"]]),
        (Dialect(skips_blanks="always"), [["1", "a"], ["2", "b"]]),
        (Dialect(skips_blanks="never"), [["1", " a"], ["2", ' "b"']]),
    ],
)
def test_blanks_before_a_field_are_skipped_as_the_dialect_says(
    dialect: Dialect, expected: list[list[str]]
) -> None:
    assert [fields for _, fields in read('1, a\n\n2, "b"\n', dialect)] == expected
