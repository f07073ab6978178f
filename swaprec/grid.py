"""Tables of text that lose nothing:
what does not fit is wrapped; where that does not fit either, a row is a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GAP_COLUMNS = 2
UNBROKEN_COLUMNS = 24
"""Words up to this long are never broken; a longer one, such as a digest, may be."""
_UNPRINTABLE = dict.fromkeys((*range(32), *range(127, 160)), "�")
_CONTROLS = {**_UNPRINTABLE, ord("\n"): "\n", ord("\t"): " ", ord("\r"): " "}
"""A title may come from a stranger: it must not steer the terminal."""


def plain(value: object) -> str:
    """Return a value as text that a terminal shows and never obeys."""
    return str(value).translate(_CONTROLS)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; `right` names the columns that hold numbers. Cells are text, never markup."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield from Text(self.title, "bold").wrap(console, options.max_width, overflow="fold")
        widths = fit_widths(
            self._natural(),
            self._least(),
            options.max_width - GAP_COLUMNS * (len(self.columns) - 1),
        )
        if widths is None:
            yield from self._blocks(console, options.max_width)
            return
        if any(self.columns):
            yield from self._lines(console, self.columns, widths, "bold")
        for row in self.rows:
            yield from self._lines(console, row, widths)

    def _natural(self) -> list[int]:
        return [max(_width(cell) for cell in cells) for cells in self._by_column()]

    def _least(self) -> list[int]:
        """Width of each column below which a word would be broken that need not be."""
        words = [[word for cell in cells for word in cell.split()] for cells in self._by_column()]
        return [min(UNBROKEN_COLUMNS, max(map(cell_len, column), default=0)) for column in words]

    def _by_column(self) -> list[list[str]]:
        return [
            [name, *(row[place] for row in self.rows)] for place, name in enumerate(self.columns)
        ]

    def _lines(
        self, console: Console, cells: Sequence[str], widths: Sequence[int], style: str = ""
    ) -> Iterator[Text]:
        """Draw one row, on as many lines as its longest cell needs."""
        wrapped = [
            Text(cell, style).wrap(console, max(1, width), overflow="fold")
            for cell, width in zip(cells, widths, strict=True)
        ]
        for parts in zip_longest(*wrapped, fillvalue=Text()):
            line = Text()
            for place, (part, width) in enumerate(zip(parts, widths, strict=True)):
                cell = part.copy()
                cell.rstrip()
                cell.align("right" if place in self.right else "left", width)
                line.append_text(cell)
                line.append(" " * GAP_COLUMNS)
            line.rstrip()
            yield line

    def _blocks(self, console: Console, width: int) -> Iterator[Text]:
        """Draw each row as lines of name and value."""
        indent = max(map(cell_len, self.columns)) + GAP_COLUMNS
        for number, row in enumerate(self.rows):
            if number:
                yield Text()
            for name, cell in zip(self.columns, row, strict=True):
                label = Text(name, "bold")
                label.align("left", indent)
                for part in Text(cell).wrap(console, max(1, width - indent), overflow="fold"):
                    yield Text.assemble(label, part)
                    label = Text(" " * indent)


def fit_widths(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Narrow the widest columns until all fit; None where they do not without breaking words."""
    widths = list(natural)
    while (excess := sum(widths) - room) > 0:
        spare = [(width, place) for place, width in enumerate(widths) if width > least[place]]
        if not spare:
            return None
        widest, place = max(spare)
        next_widest = max((width for width, other in spare if other != place), default=0)
        step = max(1, min(excess, widest - next_widest))
        widths[place] = max(least[place], widest - step)
    return widths


def _width(cell: str) -> int:
    return max(map(cell_len, cell.split("\n")))
