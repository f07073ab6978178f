"""RecBole atomic files: `*.inter` and `*.item`, tab-separated, with a typed header
(`item_id:token`).

The interactions may be split in `X.train.inter`, `X.valid.inter` and `X.test.inter`, as benchmark
data sets are. Their sequential form has a column of lists, `item_id_list:token_seq` or one of a
similar name: `training.importers.sequences` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from training.importers.columns import check_columns, missing, note_unread, ours, refuse
from training.importers.csv_files import OPTIONAL_ITEMS, OPTIONAL_LOG, titled
from training.importers.sequences import SEQUENCE, unrolled
from training.importers.tables import (
    LOG_COLUMNS,
    DataError,
    Source,
    Tables,
    gzip_hint,
    in_chunks,
    lines_of,
    numbered,
    one_file,
)
from training.rejections import Rejections

_SPLITS = ("train", "valid", "test")
_MANY = "token_seq"
_HISTORY = re.compile(r"items?(_ids?)?_(list|seq|sequence|history)")
"""Names of a list of the items before; other lists, such as `item_genres`, are features."""


def read(source: Source) -> Tables:
    """Read the files of a folder.

    Raises:
        DataError: not exactly one file of items, no files of interactions, or a column is missing.
    """
    items = one_file(source.folder, "*.item", "item file")
    logs = _logs(source.folder)
    types = {path: _types(path) for path in (items, *logs)}
    names = {path: ours(list(types[path]), source.columns) for path in types}
    names[items] = titled(names[items])
    sequence = _sequence(types[logs[0]], names[logs[0]])
    if sequence is not None:
        names = {
            path: one if path == items else _in_sequences(one, sequence)
            for path, one in names.items()
        }
    _note_lists(logs[0], types[logs[0]], sequence, source)
    needed = ("user_id", "item_id" if sequence is None else SEQUENCE)
    problems = check_columns(source.columns, {path.name: list(types[path]) for path in types})
    problems += missing(
        f"the item file {items.name}", list(names[items].values()), ("item_id", "title")
    )
    for path in logs:
        problems += missing(f"the interaction file {path.name}", list(names[path].values()), needed)
    refuse(source.folder, problems)
    note_unread(
        f"the item file {items.name}", list(names[items].values()), OPTIONAL_ITEMS, source.rejected
    )
    for path in logs if sequence is None else []:
        note_unread(
            f"the interaction file {path.name}",
            list(names[path].values()),
            OPTIONAL_LOG,
            source.rejected,
        )
    catalog = pl.concat(list(_chunks(items, names[items], source.rejected)))
    log: Iterator[pl.DataFrame] = (
        chunk for path in logs for chunk in _chunks(path, names[path], source.rejected)
    )
    if sequence is not None:
        return Tables(catalog, unrolled(log, source.rejected), source.rejected)
    timed = all("timestamp" in names[path].values() for path in logs)
    log = log if timed else numbered(chunk.select("user_id", "item_id") for chunk in log)
    return Tables(catalog, (chunk.select(LOG_COLUMNS) for chunk in log), source.rejected)


def _logs(folder: Path) -> list[Path]:
    """Find the file of interactions, or its three splits in the order of time."""
    found = sorted(folder.glob("*.inter"))
    if len(found) == 1:
        return found
    splits = [path for split in _SPLITS for path in found if path.name.endswith(f".{split}.inter")]
    bases = {path.name.rsplit(".", 2)[0] for path in splits}
    if len(splits) == len(found) and len(bases) == 1:
        return splits
    names = ", ".join(path.name for path in found) or "none"
    raise DataError(
        f"{folder}: expected one interaction file (*.inter), or X.train.inter, X.valid.inter and"
        f" X.test.inter, found {names}{'' if found else gzip_hint(folder, '*.inter')}"
    )


def _types(path: Path) -> dict[str, str]:
    """Return the type of each column of a header."""
    fields = [field.partition(":") for field in next(lines_of(path), "").split("\t")]
    names = [name.strip() for name, _, _ in fields]
    if not any(names):
        raise DataError(f"{path}: expected a header such as user_id:token, got an empty line")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a name stands twice in the header: {', '.join(names)}")
    return {name: kind.strip() for name, (_, _, kind) in zip(names, fields, strict=True)}


def _sequence(types: dict[str, str], names: dict[str, str]) -> str | None:
    """Return the column that holds histories,
    by its name in the file; None where a row is one interaction.
    """
    item = next((their for their, our in names.items() if our == "item_id"), "item_id")
    mapped = [their for their, our in names.items() if our == SEQUENCE]
    lists = [name for name, kind in types.items() if kind == _MANY and _HISTORY.fullmatch(name)]
    if types.get(item) == _MANY:
        return item
    return next((name for name in (*mapped, f"{item}_list", *lists) if name in types), None)


def _note_lists(path: Path, types: dict[str, str], sequence: str | None, source: Source) -> None:
    """Note lists of tokens that are not read, since they may be histories."""
    lists = [name for name, kind in types.items() if kind == _MANY and name != sequence]
    if lists and sequence is None:
        source.rejected.note(
            f"the interaction file {path.name} has lists that are not read",
            1,
            f"--column {SEQUENCE}={lists[0]} reads {lists[0]} as the items before",
        )


def _in_sequences(names: dict[str, str], sequence: str) -> dict[str, str]:
    """Call the column of histories by one name; a session counts as a user where there is none."""
    found = {their: SEQUENCE if their == sequence else our for their, our in names.items()}
    if "user_id" not in found.values() and "session_id" in found:
        found["session_id"] = "user_id"
    return found


def _chunks(path: Path, names: dict[str, str], rejected: Rejections) -> Iterator[pl.DataFrame]:
    def rows() -> Iterator[Sequence[str]]:
        for number, line in enumerate(lines_of(path), 1):
            fields = line.split("\t")
            if number == 1 or not line.strip():
                continue
            if len(fields) == width:
                yield [fields[place] for place in wanted]
            else:
                rejected.add(f"{path.name}: {width} fields expected", 1, f"line {number}: {line}")

    theirs = list(_types(path))
    width = len(theirs)
    wanted = [place for place, name in enumerate(theirs) if name in names]
    return in_chunks(rows(), {names[theirs[place]]: pl.String for place in wanted})
