"""Columns of a log by our names: a mapping from theirs, and a hint where one is missing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.importers.tables import DataError
from training.rejections import Rejections

_KNOWN_AS = {
    "user_id": (
        "user",
        "uid",
        "customer",
        "customerid",
        "reviewerid",
        "visitorid",
        "memberid",
        "session",
        "sessionid",
    ),
    "item_id": (
        "item",
        "iid",
        "movieid",
        "articleid",
        "productid",
        "asin",
        "parentasin",
        "newsid",
        "videoid",
        "sku",
    ),
    "title": ("name", "itemname", "productname", "movietitle", "headline", "text", "label"),
    "timestamp": (
        "time",
        "date",
        "datetime",
        "ts",
        "createdat",
        "eventtime",
        "unixtime",
        "unixreviewtime",
        "tdat",
    ),
}
_MAX_NAMED = 30
_MAX_NAME = 60
_CLOSE = 0.75


def ours(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return what each column of a file is called here, by its name there.

    Args:
        names: the file's columns.
        columns: our name of a column to its name in the files, of which one may write it in another
            case; a column of our name there gives way.
    """
    theirs = {
        name: our for our, their in columns.items() if (name := _found(their, names)) is not None
    }
    taken = set(theirs.values())
    return {name: theirs.get(name, name) for name in names if name in theirs or name not in taken}


def check_mapping(columns: Mapping[str, str]) -> None:
    """Check our names and theirs, before any file is read.

    Raises:
        ValueError: an empty name, or a column of the files that is given twice.
    """
    theirs = list(columns.values())
    problems = [
        f"{our}={their}"
        for our, their in columns.items()
        if not our or not their or theirs.count(their) > 1
    ]
    if problems:
        raise ValueError(
            f"{', '.join(problems[:_MAX_NAMED])}: expected our name and theirs, each column once"
        )


def check_columns(columns: Mapping[str, str], files: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the problems of a mapping: columns that no file has."""
    known = [name for names in files.values() for name in names]
    return [
        f"column {our}={their}: no file has {their!r};"
        f" {'; '.join(_has(what, names) for what, names in files.items())}"
        for our, their in columns.items()
        if _found(their, known) is None
    ]


def missing(what: str, names: Sequence[str], needed: Sequence[str]) -> list[str]:
    """Return the problems of a header that lacks columns, with the nearest name it has."""
    lacks = [name for name in needed if name not in names]
    if not lacks:
        return []
    hints = [f"{name}={near}" for name in lacks if (near := nearest(name, names)) is not None]
    hint = (
        f" (if that is it: {' '.join(f'--column {hint}' for hint in hints)}, or [data.columns])"
        if hints
        else ""
    )
    return [f"{what} lacks {', '.join(lacks)}; {_has('it', names)}{hint or _separator(names)}"]


def note_unread(
    what: str, names: Sequence[str], optional: Mapping[str, str], rejected: Rejections
) -> None:
    """Note each optional column that a header lacks and probably has under another name.

    Args:
        what: the file.
        names: the header, by our names.
        optional: our name of a column to what happens without it.
        rejected: takes the notes.
    """
    for name, effect in optional.items():
        near = None if name in names else nearest(name, names)
        if near is not None:
            rejected.note(
                f"{what} has no column {name}, {effect}",
                1,
                f"--column {name}={near} reads {near} as it",
            )


def _found(their: str, names: Sequence[str]) -> str | None:
    """Return the column of a name, or the only one of that name in another case."""
    alike = [name for name in dict.fromkeys(names) if name.casefold() == their.casefold()]
    return their if their in names else next(iter(alike), None)


def nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the column that is probably meant, None where none is near."""
    plain = {_plain(one): one for one in reversed(names)}
    for known in (_plain(name), *_KNOWN_AS.get(name, ())):
        if known in plain:
            return plain[known]
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_CLOSE)
    return plain[close[0]] if close else None


def refuse(folder: Path, problems: Sequence[str]) -> None:
    """Raise one error of all problems, if there are any.

    Raises:
        DataError: there are.
    """
    text = "; ".join(problems)
    if text:
        raise DataError(text if str(folder) in text else f"{folder}: {text}")


def _has(what: str, names: Sequence[str]) -> str:
    shown = [name[:_MAX_NAME] for name in names[:_MAX_NAMED]]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{what} has {', '.join(shown)}{more}"


def _separator(names: Sequence[str]) -> str:
    """Hint at another separator where the whole header is one column."""
    found = next((mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]), None)
    return f": its columns are separated by {found!r}, expected commas" if found else ""


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
