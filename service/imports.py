"""Items in bulk: a body is spooled to a file, then stored row by row in transactions, and made searchable.

What was spooled and acknowledged as a job is gone on with after a crash; storing an item twice changes nothing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
from pydantic import ValidationError

from adapters_store.files import PART, room_or_error
from service.activation import Activator
from service.errors import MalformedBody, PayloadTooLarge
from service.jobs import Jobs, Progress
from service.schemas import ItemBody
from service.state import Item, Job, State

KIND = "import"
ROWS = 1000
MAX_REJECTED = 1000
MAX_ARRAY_BYTES = 64 * 1024 * 1024

Advance = Callable[[int, int], None]


@dataclass(slots=True)
class Report:
    """What an import did; of the rejected rows the first thousand are listed, all are counted."""

    accepted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected_count: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, index: int, item_id: str | None, code: str, detail: str) -> None:
        """Count a row that cannot be stored."""
        self.rejected_count += 1
        if len(self.rejected) < MAX_REJECTED:
            self.rejected.append({"index": index, "item_id": item_id, "code": code, "detail": detail})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        names = ("accepted", "updated", "unchanged", "rejected_count", "rejected")
        return {name: getattr(self, name) for name in names}


class Imports:
    """Spools bodies, imports them now or as a job."""

    def __init__(self, folder: Path, state: State, activator: Activator, jobs: Jobs) -> None:
        self._folder = folder
        self._state, self._activator, self._jobs = state, activator, jobs
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"*{PART}"):
            path.unlink()
        jobs.kinds[KIND] = self._import_job

    async def spool(self, body: AsyncIterator[bytes], max_bytes: int, *, ndjson: bool) -> Path:
        """Write a body to a file of its own.

        Raises:
            PayloadTooLarge: an array that must fit in memory, or more than `max_bytes`; OutOfSpace. Nothing is left.
        """
        limit = max_bytes if ndjson else min(max_bytes, MAX_ARRAY_BYTES)
        path = self._folder / f"{uuid.uuid4().hex}.{'ndjson' if ndjson else 'json'}{PART}"
        size = 0
        try:
            with room_or_error(self._folder):
                async with await anyio.open_file(path, "wb") as file:
                    async for chunk in body:
                        size += len(chunk)
                        _check_size(size, limit, ndjson=ndjson)
                        await file.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def submit(self, domain: str, spooled: Path) -> Job:
        """Import as a job; from here on a crash loses nothing."""
        kept = spooled.with_suffix("")
        spooled.rename(kept)
        return self._jobs.submit(KIND, domain, {"file": kept.name})

    def run(self, domain: str, spooled: Path, told: Advance | None = None) -> Report:
        """Store every row that can be stored, make the catalog searchable, and say what could not be.

        Raises:
            MalformedBody: an array that is no JSON; nothing was stored.
        """
        report = Report()
        size = spooled.stat().st_size
        found = _rows(spooled, report)
        while rows := list(islice(found, ROWS)):
            done = self._state.upsert_items(domain, [item for _, item in rows])
            report.accepted += done.accepted
            report.updated += done.updated
            report.unchanged += done.unchanged
            if told is not None:
                told(rows[-1][0], size)
        self._activator.catalog_changed(domain)
        return report

    def _import_job(self, job: Job, progress: Progress) -> dict[str, Any]:
        path = self._folder / job.detail["file"]
        report = self.run(job.domain, path, progress.stage("import"))
        path.unlink(missing_ok=True)
        return report.to_json()


def _check_size(size: int, limit: int, *, ndjson: bool) -> None:
    if size > limit:
        hint = "" if ndjson else "; send it as application/x-ndjson, one item a line"
        raise PayloadTooLarge(f"more than {limit} bytes of items{hint}")


def _rows(path: Path, report: Report) -> Iterator[tuple[int, Item]]:
    """Yield (bytes or rows read, item); rejected rows go to the report."""
    array = ".ndjson" not in path.name
    for index, (place, raw) in enumerate(_array(path) if array else _lines(path)):
        item_id = raw.get("item_id") if isinstance(raw, dict) else None
        try:
            if isinstance(raw, ValueError):
                raise raw
            yield place, ItemBody.model_validate(raw).to_item()
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            report.reject(index, item_id, "invalid_item", told)
        except ValueError as error:
            report.reject(
                index, item_id, "malformed_json" if isinstance(raw, ValueError) else "invalid_item", str(error)
            )


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    place = 0
    with path.open("rb") as file:
        for line in file:
            place += len(line)
            if not line.strip():
                continue
            try:
                yield place, json.loads(line)
            except ValueError as error:
                yield place, error


def _array(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from error
    if not isinstance(value, list):
        raise MalformedBody("expected a JSON array of items, or application/x-ndjson with one item a line")
    yield from enumerate(value, 1)
