"""Tables lose nothing, however narrow the place is."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from swaprec.grid import fit_widths
from swaprec.show import table

REASON = "the adapter collapsed: 60 probes are answered with 3 different items of 40 possible ones"
ROWS = [
    ("9f86d081884c", "activate", "films", "failed", REASON),
    ("60303ae22b99", "import", "books", "running", "90 %"),
]
COLUMNS = ("job", "kind", "domain", "status", "progress")


def shown(thing: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 4000])
def test_every_word_of_every_cell_is_there_and_no_line_is_too_long(width: int) -> None:
    text = shown(table("Jobs", COLUMNS, ROWS), width)
    assert max(map(len, text.splitlines())) <= width
    for word in {word for row in ROWS for cell in row for word in cell.split()} | set(COLUMNS):
        assert re.search(rf"(^|\s){re.escape(word)}(\s|$)", text, re.MULTILINE), (word, text)


def test_where_there_is_room_a_row_is_one_line_without_trailing_blanks() -> None:
    lines = shown(table("", COLUMNS, ROWS), 4000).splitlines()
    assert len(lines) == 3
    assert lines[1].endswith(REASON)
    assert lines[2].endswith("90 %")


def test_where_not_even_wrapped_columns_fit_a_row_is_a_block_of_names_and_values() -> None:
    text = shown(table("", COLUMNS, ROWS), 30)
    assert "domain    films" in text
    assert text.count("status") == 2


def test_a_word_longer_than_the_place_is_broken_and_whole_nevertheless() -> None:
    digest = "0123456789abcdef" * 4
    text = shown(table("", ("", ""), [("digest", digest)]), 40)
    assert digest in re.sub(r"\s|digest", "", text)


def test_wide_characters_are_counted_by_the_cells_they_take() -> None:
    rows = [(1, "風の谷のナウシカと、もののけ姫と、となりのトトロ", "0.91"), (2, "Alien", "0.90")]
    text = shown(table("", ("rank", "title", "score"), rows, right=(0, 2)), 30)
    assert max(map(cell_len, text.splitlines())) <= 30
    assert all(sign in text for sign in rows[0][1])


def test_a_title_does_not_steer_the_terminal() -> None:
    text = shown(table("", ("title",), [("\x1b[31mred\x07\x9b2J\ttabbed\r",)]), 80)
    assert "red" in text
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\r", "\t"}


def test_only_the_widest_columns_are_narrowed() -> None:
    assert fit_widths([5, 40, 30], [5, 8, 8], 55) == [5, 25, 25]
    assert fit_widths([5, 40, 30], [5, 8, 8], 75) == [5, 40, 30]
    assert fit_widths([5, 40, 30], [5, 40, 30], 60) is None
