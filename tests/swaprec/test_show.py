from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from swaprec.show import UNLIMITED_COLUMNS, bytes_text, data, line, table, talk, width


def shown(thing: object, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=80, **options)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "title", ["Alien [bold]cut[/bold]", "Odd [/] title", "Up :smile: again", "[link=x]y[/link]"]
)
def test_a_title_is_shown_as_it_is_whatever_is_in_it(title: str) -> None:
    assert title in shown(table("", ("title",), [(title,)]))
    assert f"Film {title}" in shown(line("Film", f" {title}"))


@pytest.mark.parametrize("console", [talk, data])
def test_what_is_said_is_text_too(console: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(console)
    console().print("not used: [/] :smile:")
    both = capsys.readouterr()
    assert both.out + both.err == "not used: [/] :smile:\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")],
)
def test_bytes_are_written_for_people(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_only_the_widest_column_is_wrapped() -> None:
    title = "Four flight attendants were arrested in an airport after " * 3
    rows = [(1, "N51706", title, "1.234"), (10, "N5", "x", "")]
    lines = shown(table("", ("rank", "item", "title", "score"), rows, right=(0, 3))).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("   1  N51706  Four flight attendants")
    assert lines[1].endswith("  1.234")
    assert (
        " ".join(" ".join(lines[1:-1]).split()).replace(" 1.234", "") == f"1 N51706 {title.strip()}"
    )
    assert lines[-1].split() == ["10", "N5", "x"]
    assert shown(table("", ("rank", "item"), [])).split() == ["rank", "item"]


def test_a_pipe_has_no_width_unless_columns_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width(io.StringIO()) == UNLIMITED_COLUMNS
    for given, expected in (
        ("80", 80),
        ("5", 20),
        ("many", UNLIMITED_COLUMNS),
        ("0", UNLIMITED_COLUMNS),
    ):
        monkeypatch.setenv("COLUMNS", given)
        assert width(io.StringIO()) == expected
