"""Items from a file of any usual form, one row at a time."""

from __future__ import annotations

import base64
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from swaprec.errors import USAGE, Stop

OWN = ("item_id", "title", "text", "image_b64", "category", "timestamp", "popularity", "attributes")
KINDS = ".ndjson, .jsonl, .json, .csv or .parquet"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the items of a file as the service takes them; columns that it does not know become attributes.

    Raises:
        Stop: no such file, a form that is not read, or a line that is not of it.
    """
    if str(path) == "-":
        return map(_item, _lines(sys.stdin, "stdin"))
    if not path.is_file():
        raise Stop(f"{path} is not there", f"give a file whose name ends with {KINDS}", USAGE)
    readers = {".ndjson": _ndjson, ".jsonl": _ndjson, ".json": _array, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise Stop(f"{path} has no form that is read", f"expected {KINDS}", USAGE)
    return map(_item, readers[path.suffix](path))


def with_pictures(rows: Iterable[dict[str, Any]], source: Path) -> Iterator[dict[str, Any]]:
    """Add to each row the picture that its column `image` names, from a folder, a zip or an LMDB.

    A row whose picture is missing goes on without it: the service says what it lacks.

    Raises:
        Stop: there is no such folder, zip or LMDB, or a picture in it cannot be read.
    """
    from transrec.content import Pictures
    from transrec.images import ImageError

    try:
        pictures = Pictures(source)
        for row in rows:
            name = row.get("attributes", {}).pop("image", None)
            picture = pictures.find(str(name)) if name else None
            yield row if picture is None else row | {"image_b64": base64.b64encode(picture.read()).decode()}
    except ImageError as error:
        raise Stop(
            str(error), "give a folder, a zip or an LMDB with the pictures that the column image names", USAGE
        ) from error


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in row.items() if value is not None and value != ""}
    item = {name: given[name] for name in OWN if name in given}
    if "item_id" in item:
        item["item_id"] = str(item["item_id"])
    if isinstance(item.get("popularity"), str):
        item["popularity"] = _number(item["popularity"])
    others = {name: value for name, value in given.items() if name not in OWN}
    return item | ({"attributes": {**item.get("attributes", {}), **others}} if others else {})


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # the service names the row


def _ndjson(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        yield from _lines(file, str(path))


def _lines(file: TextIO, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        yield _object(_parsed(line, f"{name}, line {number}"), f"{name}, line {number}")


def _array(path: Path) -> Iterator[dict[str, Any]]:
    value = _parsed(path.read_text("utf-8-sig"), str(path))
    if not isinstance(value, list):
        raise Stop(f"{path} is no JSON array", "one object a line is NDJSON: name it .ndjson", USAGE)
    return (_object(one, f"{path}, entry {number}") for number, one in enumerate(value))


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader: Iterable[dict[str | None, Any]] = csv.DictReader(file)
        for row in reader:
            yield {name: value for name, value in row.items() if name is not None}


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import polars as pl

    for part in pl.scan_parquet(path).collect_batches(chunk_size=10_000):
        yield from part.iter_rows(named=True)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Stop(f"{where} is not JSON: {error}", code=USAGE) from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Stop(f"{where} is no JSON object", 'expected {"item_id": …, "title": …}', USAGE)
    return value
