"""What `pip install swaprec` leaves to its extras, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from typing import Literal, ParamSpec, TypeVar

from swaprec.errors import MISSING_EXTRA, Stop

P = ParamSpec("P")
R = TypeVar("R")
Extra = Literal["serve", "train"]
MARKERS: Mapping[Extra, tuple[str, ...]] = {
    "serve": ("torch", "faiss", "fastapi"),
    "train": ("torch", "polars", "accelerate"),
}
"""Modules that stand for all that an extra brings:
where they are, the others are looked for when they are used.
"""


class MissingExtra(Stop):
    """A part of the installation that a command or an input needs is not there."""

    def __init__(self, what: str, extras: tuple[Extra, ...]) -> None:
        super().__init__(
            f"{what} needs packages that are not installed: pip install"
            f" 'swaprec[{','.join(extras)}]'",
            code=MISSING_EXTRA,
        )


@contextmanager
def needing(what: str, *extras: Extra) -> Iterator[None]:
    """Check that extras are installed, before and while they are used.

    Args:
        what: subject of the error's sentence.
        extras: what it needs; none needs nothing.

    Raises:
        MissingExtra: a module is missing.
    """
    if not extras:
        yield
        return
    if not all(_is_there(module) for extra in extras for module in MARKERS[extra]):
        raise MissingExtra(what, extras)
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(what, extras) from error


def command_needing(command: Callable[P, R], name: str, *extras: Extra) -> Callable[P, R]:
    """Return a command that says which extras it needs, before it does anything."""

    @wraps(command)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        with needing(f"swaprec {name}", *extras):
            return command(*args, **kwargs)

    return checked


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
