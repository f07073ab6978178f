"""Items in bulk: a body is spooled to a file, then stored row by row in transactions, and made searchable.

What was spooled and acknowledged as a job is gone on with after a crash; storing an item twice changes nothing.
"""

from __future__ import annotations

import codecs
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from pydantic import ValidationError
from pydantic_core import from_json

from adapters_store.files import PART, room_or_error, sync_folder
from service.errors import MalformedBody, PayloadTooLarge
from service.folds import Folds
from service.intake import Intake
from service.jobs import Jobs, Progress
from service.schemas import MAX_IMAGE_B64, ItemBody, ItemPatch
from service.state import Item, Job, State, Upserted
from service.versions import Versions
from service.writer import CatalogWriter, Patiently

KIND, PATCH = "import", "patch"
ROWS = 5000
FOLDED = 10_000
"""A job that imports more items makes them searchable at its end, by a fold: not step by step."""
MAX_REJECTED = 1000
MAX_ARRAY_BYTES = 64 * 1024 * 1024
MAX_ROW_BYTES = 256 * 1024
MAX_ID = 256
ABANDONED_S = 3600.0
MAX_DETAIL = 1000

Advance = Callable[[int, int], None]


@dataclass(slots=True)
class Report:
    """What an import did; of the rejected rows the first thousand are listed, all are counted."""

    accepted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected_count: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, index: int, raw: object, code: str, detail: str) -> None:
        """Count a row that cannot be stored; of a long id or reason the beginning is shown."""
        self.rejected_count += 1
        if len(self.rejected) < MAX_REJECTED:
            given = raw.get("item_id") if isinstance(raw, dict) else None
            item_id = given[:MAX_ID] if isinstance(given, str) else None
            self.rejected.append({"index": index, "item_id": item_id, "code": code, "detail": detail[:MAX_DETAIL]})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        names = ("accepted", "updated", "unchanged", "rejected_count", "rejected")
        return {name: getattr(self, name) for name in names}


class Imports:
    """Spools bodies, imports them now or as a job."""

    def __init__(
        self, folder: Path, state: State, versions: Versions, writer: CatalogWriter, folds: Folds, jobs: Jobs
    ) -> None:
        self._folder, self._state = folder, state
        self._versions, self._writer, self._folds, self._jobs = versions, writer, folds, jobs
        folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        jobs.kinds[KIND], jobs.after[KIND] = self._import_job, self._forget
        jobs.kinds[PATCH], jobs.after[PATCH] = self._patch_job, self._forget

    def _sweep(self) -> None:
        """Remove what nobody will import any more: named by no job, and too old to be on its way in."""
        wanted = {job.detail["file"] for job in self._jobs.unended() if job.kind in (KIND, PATCH)}
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in wanted and time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()

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

    def submit_item(self, domain: str, item: ItemBody) -> Job:
        """Import one item as a job.

        Raises:
            PayloadTooLarge: an import's row may not be so long; OutOfSpace: nothing is left.
        """
        row = item.model_dump_json(exclude_unset=True).encode() + b"\n"
        if len(row) - len(item.image_b64 or "") > MAX_ROW_BYTES:
            raise PayloadTooLarge(f"more than {MAX_ROW_BYTES} bytes beside its picture; put it with wait=true")
        return self.submit(domain, self._spooled(row))

    def submit_patch(self, domain: str, item_id: str, patch: ItemPatch) -> Job:
        """Change an item as a job.

        Raises:
            OutOfSpace: nothing is left.
        """
        spooled = self._spooled(patch.model_dump_json(exclude_unset=True).encode())
        return self.submit(domain, spooled, PATCH, item_id=item_id)

    def _spooled(self, content: bytes) -> Path:
        path = self._folder / f"{uuid.uuid4().hex}.ndjson{PART}"
        with room_or_error(self._folder):
            path.write_bytes(content)
        return path

    def submit(self, domain: str, spooled: Path, kind: str = KIND, **detail: str) -> Job:
        """Import as a job; from here on neither a crash nor a power cut loses anything.

        Args:
            domain: whose items.
            spooled: the body; it is the job's from here on.
            kind: what is done with it.
            detail: what else the job has to know.

        Raises:
            OutOfSpace: nothing is left.
        """
        kept = spooled.with_suffix("")
        try:
            with room_or_error(self._folder), spooled.open("rb") as file:
                os.fsync(file.fileno())
            spooled.rename(kept)
            sync_folder(self._folder)
            return self._jobs.submit(kind, domain, {"file": kept.name, **detail})
        except BaseException:
            spooled.unlink(missing_ok=True)
            kept.unlink(missing_ok=True)
            raise

    def run(
        self, domain: str, spooled: Path, told: Advance | None = None, patiently: Patiently = lambda call: call()
    ) -> Report:
        """Store every row that can be stored, make the catalog searchable, and say what could not be.

        A job's `patiently` waits where state is gone, so that its report counts every row once.

        Raises:
            MalformedBody: an array that is no JSON; nothing was stored.
        """
        report, done, total = Report(), 0, 0
        intake = self._versions.intake(domain)
        found = _rows(spooled, report, intake)
        while rows := list(islice(found, ROWS)):
            items = [item for _, _, item in rows]
            intake.settle()
            search = told is None or report.accepted + report.updated < FOLDED
            stored = self._writer.upsert(domain, items, search=search, patiently=patiently)
            report.accepted += stored.accepted
            report.updated += stored.updated
            report.unchanged += stored.unchanged
            done, total, _ = rows[-1]
            if told is not None:
                told(done, total)
        if told is not None and done != total:  # the last rows were rejected
            told(total, total)
        return report

    def _import_job(self, job: Job, progress: Progress) -> dict[str, Any]:
        told = progress.stage("import")
        report = self.run(job.domain, self._path(job), told, progress.patiently)
        if report.accepted + report.updated + report.unchanged >= FOLDED:
            self._folds.fold(job.domain, progress)
        return report.to_json()

    def _patch_job(self, job: Job, progress: Progress) -> dict[str, Any]:
        patch = ItemPatch.model_validate_json(self._path(job).read_bytes())
        intake = self._versions.intake(job.domain)

        def changed(before: Item) -> Item:
            after = intake.patched(before, patch)
            intake.settle()
            return after

        stored: Upserted = progress.patiently(lambda: self._writer.change(job.domain, job.detail["item_id"], changed))
        return {"updated": stored.updated, "unchanged": stored.unchanged}

    def _forget(self, job: Job) -> None:
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: Job) -> Path:
        return self._folder / str(job.detail["file"])


def _check_size(size: int, limit: int, *, ndjson: bool) -> None:
    if size > limit:
        hint = "" if ndjson else "; send it as application/x-ndjson, one item a line"
        raise PayloadTooLarge(f"more than {limit} bytes of items{hint}")


class _TooLong(ValueError):
    """A row over the limit."""


def _rows(path: Path, report: Report, intake: Intake) -> Iterator[tuple[int, int, Item]]:
    """Yield (done, total, item), in bytes of lines or in rows of an array; rejected rows go to the report."""
    array = ".ndjson" not in path.name
    limit = MAX_ROW_BYTES + (MAX_IMAGE_B64 if intake.reads_images else 0)
    for index, (done, total, raw) in enumerate(_array(path) if array else _lines(path, limit)):
        if isinstance(raw, ValueError):
            report.reject(index, None, "item_too_large" if isinstance(raw, _TooLong) else "malformed_json", str(raw))
            continue
        try:
            item = intake.item(ItemBody.model_validate(raw))
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            report.reject(index, raw, "invalid_item", told)
        except ValueError as error:
            report.reject(index, raw, "invalid_item", str(error))
        else:
            yield done, total, item


def _lines(path: Path, limit: int) -> Iterator[tuple[int, int, Any]]:
    done, total = 0, path.stat().st_size
    with path.open("rb") as file:
        while line := file.readline(limit):
            done += len(line)
            if len(line) == limit and not line.endswith(b"\n"):
                done += _skip_line(file)
                yield done, total, _TooLong(f"longer than {limit} bytes")
            elif line.strip():
                yield done, total, _value(line)


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of a line without keeping it; returns the bytes."""
    skipped = 0
    while part := file.readline(MAX_ROW_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _array(path: Path) -> Iterator[tuple[int, int, Any]]:
    value = _value(path.read_bytes())
    if isinstance(value, ValueError):
        raise MalformedBody(f"the body is not JSON: {value}") from value
    if not isinstance(value, list):
        raise MalformedBody("expected a JSON array of items, or application/x-ndjson with one item a line")
    for index, raw in enumerate(value, 1):
        yield index, len(value), raw


def _value(text: bytes) -> Any:
    """Parse strictly: no NaN, no lone surrogate, no nesting that nothing could print; the error is returned."""
    try:
        return from_json(text.removeprefix(codecs.BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        return error
