"""Items in bulk: a body is spooled to a file, then stored row by row in transactions, and made
searchable.

What was spooled and acknowledged as a job is resumed after a crash; storing an item twice changes
nothing.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from adapters_store.files import PART, room_or_error, sync_file, sync_folder
from service.content.import_batch import Merge, UnknownTokens
from service.content.import_rows import BATCH_ROWS, MAX_ROW_BYTES, Check, RowReport, read_batches
from service.embedding.versions import Versions
from service.errors import AtCapacity, PayloadTooLarge
from service.ingest.writer import CatalogWriter, RetryUntilAvailable
from service.jobs import Jobs, Progress
from service.live.compaction import Compactor
from service.state import CatalogJobs, JobRecord, StoredItem, Upserted
from service.wire.requests import ItemBody, ItemPatch
from transrec.progress import OnProgress

KIND = "import"
PATCH = "patch"
BULK_IMPORT_ROWS = 10_000
"""A job that imports more items makes them searchable at its end,
by a compaction, and not step by step.
"""
MAX_ARRAY_BYTES = 64 * 1024 * 1024
ABANDONED_S = 3600.0
KEEP_EVERY_S = 1.0
"""How often it is written down how far an import
of rejected rows is: the report may be a megabyte.
"""
COUNTED_BYTES = 16 * 1024 * 1024
"""After so much of a body everything that waits is counted again."""

_log = logging.getLogger("swaprec")

Keep = Callable[[RowReport, int, int], None]


@dataclass(frozen=True, slots=True)
class ImportRun:
    """How an import goes on: what it did until `position`, and the catalog's generation then; -1
    where it just begins.

    `incarnation` is the one of the domain that the import is for. `compacts`: a bulk import becomes
    searchable by a compaction at its end. `replaces`: what a row does not name has its default, as
    in a PUT; else it stays as it is. `on_progress` is called with (done, total);
    `retry_until_available` repeats a call while state is unavailable; `keep` records the progress;
    `check` raises where the job may not go on.
    """

    report: RowReport = field(default_factory=RowReport)
    position: int = 0
    generation: int = -1
    incarnation: str = ""
    compacts: bool = False
    replaces: bool = False
    on_progress: OnProgress = lambda *_: None
    retry_until_available: RetryUntilAvailable = lambda call: call()
    keep: Keep = lambda *_: None
    check: Check = lambda: None


class Imports:
    """Spools bodies, imports them now or as a job."""

    def __init__(
        self,
        folder: Path,
        state: CatalogJobs,
        versions: Versions,
        writer: CatalogWriter,
        compactor: Compactor,
        jobs: Jobs,
        max_spool_bytes: int,
    ) -> None:
        self._folder = folder
        self._state = state
        self._max_spool_bytes = max_spool_bytes
        self._versions = versions
        self._writer = writer
        self._compactor = compactor
        self._jobs = jobs
        folder.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what nobody will import any more:
        named by no job, and too old to be on its way in.
        """
        wanted = {job.detail["file"] for job in self._jobs.unended() if job.kind in (KIND, PATCH)}
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in wanted and time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()

    async def spool(self, body: AsyncIterator[bytes], max_bytes: int, *, ndjson: bool) -> Path:
        """Write a body to a file of its own.

        Raises:
            PayloadTooLarge: an array that must fit in memory, or more than `max_bytes`; OutOfSpace;
            AtCapacity: what waits here takes more than it may. Nothing is left.
        """
        limit = max_bytes if ndjson else min(max_bytes, MAX_ARRAY_BYTES)
        path = self._folder / f"{uuid.uuid4().hex}.{'ndjson' if ndjson else 'json'}{PART}"
        try:
            await anyio.to_thread.run_sync(self._check_room)
            with room_or_error(self._folder):
                async with await anyio.open_file(path, "wb") as file:
                    await self._write(file, body, limit, ndjson=ndjson)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    async def _write(
        self, file: anyio.AsyncFile[bytes], body: AsyncIterator[bytes], limit: int, *, ndjson: bool
    ) -> None:
        """Write a body to an open file, and count from time to time what waits."""
        size = counted = 0
        async for chunk in body:
            size += len(chunk)
            _check_size(size, limit, ndjson=ndjson)
            await file.write(chunk)
            if size - counted > COUNTED_BYTES:
                counted = size
                await anyio.to_thread.run_sync(self._check_room)

    def _check_room(self) -> None:
        """Refuse more where too much waits, of all domains and processes that share the folder."""
        waiting = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    waiting += entry.stat().st_size
        if waiting > self._max_spool_bytes:
            raise AtCapacity(
                f"imports of {waiting} bytes wait already, at most {self._max_spool_bytes} are kept"
            )

    def submit_item(self, domain: str, item: ItemBody, incarnation: str) -> JobRecord:
        """Import one item as a job.

        Raises:
            PayloadTooLarge: an import's row may not be so long; OutOfSpace: nothing is left.
        """
        row = item.model_dump_json(exclude_unset=True).encode() + b"\n"
        if len(row) - len(item.image_b64 or "") > MAX_ROW_BYTES:
            raise PayloadTooLarge(
                f"more than {MAX_ROW_BYTES} bytes beside its picture; put it with wait=true"
            )
        return self.submit(domain, self._spooled(row), incarnation, replaces="true")

    def submit_patch(
        self, domain: str, item_id: str, patch: ItemPatch, incarnation: str
    ) -> JobRecord:
        """Change an item as a job.

        Raises:
            OutOfSpace: nothing is left.
        """
        spooled = self._spooled(patch.model_dump_json(exclude_unset=True).encode())
        return self.submit(domain, spooled, incarnation, PATCH, item_id=item_id)

    def _spooled(self, content: bytes) -> Path:
        path = self._folder / f"{uuid.uuid4().hex}.ndjson{PART}"
        with room_or_error(self._folder):
            path.write_bytes(content)
        return path

    def submit(
        self, domain: str, spooled: Path, incarnation: str, kind: str = KIND, **detail: str
    ) -> JobRecord:
        """Import as a job; from here on neither a crash nor a power cut loses anything.

        Args:
            domain: whose items.
            spooled: the body; it is the job's from here on.
            incarnation: of the domain; a later one of its name does not get the items.
            kind: what is done with it.
            detail: what else the job has to know.

        Raises:
            OutOfSpace, DomainNotFound, TooManyAtOnce: nothing is left.
        """
        kept = spooled.with_suffix("")
        try:
            self._jobs.check_room(domain)
            with room_or_error(self._folder):
                sync_file(spooled)
            spooled.rename(kept)
            sync_folder(self._folder)
            return self._jobs.submit(kind, domain, {"file": kept.name, **detail}, incarnation)
        except BaseException:
            spooled.unlink(missing_ok=True)
            kept.unlink(missing_ok=True)
            raise

    def run(self, domain: str, spooled: Path, run: ImportRun | None = None) -> RowReport:
        """Store every row that can be stored, make the catalog searchable, and say what could not
        be.

        Raises:
            MalformedBody: an array that is no JSON; nothing was stored.
        """
        run = run or ImportRun()
        report = run.report
        done = run.position
        total = 0
        rows = 0
        item_reader = self._versions.item_reader(domain)
        sample = UnknownTokens(item_reader)
        overtaken = self._overtaken(domain, run.generation)
        generation = run.generation
        kept = time.monotonic()
        for batch in read_batches(spooled, report, item_reader, done, run.check):
            wanted = [
                (index, row) for index, row in batch.rows_by_number if row.item_id not in overtaken
            ]
            merge = Merge(self._state, domain, item_reader, wanted, replaces=run.replaces)
            run.retry_until_available(merge.read)
            merge.report_rejected(report)
            sample.add(merge.items)
            item_reader.settle()
            if merge.items:
                stored = self._store(domain, merge, run)
                report.accepted += stored.accepted
                report.updated += stored.updated
                report.unchanged += stored.unchanged
                generation = stored.generation
            report.unchanged += len(batch.rows_by_number) - len(wanted)
            done = batch.done
            total = batch.total
            rows += batch.rows
            if rows >= BATCH_ROWS:
                # No batch has more rows: what was stored but not written down before a crash is
                # behind.
                overtaken = frozenset()
            if merge.items or time.monotonic() - kept > KEEP_EVERY_S:
                run.keep(report, done, generation)
                kept = time.monotonic()
            run.on_progress(done, total)
        if done != total:  # nothing but empty lines followed
            run.on_progress(total, total)
        report.warnings += sample.warnings()
        counts = (report.accepted, report.updated, report.unchanged, report.rejected_count)
        _log.info(
            "%s: import ended: %d accepted, %d updated, %d unchanged, %d rejected", domain, *counts
        )
        return report

    def _store(self, domain: str, merge: Merge, run: ImportRun) -> Upserted:
        search = not run.compacts or run.report.accepted + run.report.updated < BULK_IMPORT_ROWS
        return self._writer.upsert(
            domain,
            merge.items,
            search=search,
            retry_until_available=run.retry_until_available,
            check=run.check,
            renew=merge.renewed,
            incarnation=run.incarnation,
        )

    def _overtaken(self, domain: str, generation: int) -> frozenset[str]:
        """Ids that are not to be stored again by who begins anew:
        a process that was killed did, or somebody since.
        """
        if generation < 0:
            return frozenset()
        incarnation = self._state.get_domain(domain).incarnation
        changes = self._state.changes(domain, generation, incarnation)
        removals = self._state.removals(domain, generation, incarnation)
        upserted = [item.item_id for item in changes.upserted] if changes is not None else []
        return frozenset([*upserted, *(removals.deleted if removals is not None else [])])

    def run_import_job(self, job: JobRecord, progress: Progress) -> dict[str, Any]:
        """Import, or go on with it where it was:
        what was deleted since does not come back with its rows.
        """
        incarnation = self._state.get_domain(
            job.domain
        ).incarnation  # before the job is seen: it goes with its domain
        job = self._state.get_job(job.id)
        begun = job.result or {}
        first = begun.get("generation", -1) if begun else self._state.generation(job.domain)

        def keep(report: RowReport, position: int, generation: int) -> None:
            # As long as nothing is stored, what others changed since the beginning is not to be
            # overwritten.
            generation = first if generation < 0 else generation
            result = {"report": report.to_json(), "position": position, "generation": generation}
            progress.retry_until_available(
                lambda: self._state.update_job(job.id, token=progress.job.token, result=result)
            )

        verb = "goes on" if begun else "begins"
        _log.info("%s: import job %s %s", job.domain, job.id, verb)
        if not begun:
            keep(RowReport(), 0, first)
        run = ImportRun(
            report=RowReport.parse(begun["report"]) if begun else RowReport(),
            position=begun.get("position", 0),
            generation=begun.get("generation", -1),
            incarnation=incarnation,
            compacts=True,
            replaces=job.detail.get("replaces") == "true",
            on_progress=progress.stage("import"),
            retry_until_available=progress.retry_until_available,
            keep=keep,
            check=progress.check,
        )
        report = self.run(job.domain, self._path(job), run)
        if report.stored >= BULK_IMPORT_ROWS:
            progress.retry_until_available(lambda: self._compactor.compact(job.domain, progress))
        return report.to_json()

    def run_patch_job(self, job: JobRecord, progress: Progress) -> dict[str, Any]:
        """Change an item, unless that was done before this
        process was killed, or somebody changed it since.
        """
        incarnation = self._state.get_domain(job.domain).incarnation
        patch = ItemPatch.model_validate_json(self._path(job).read_bytes())
        item_id = job.detail["item_id"]
        begun = self._state.get_job(job.id).result
        if begun is None:
            began = {"generation": self._state.generation(job.domain)}
            progress.retry_until_available(
                lambda: self._state.update_job(job.id, token=job.token, result=began)
            )
        elif item_id in self._overtaken(job.domain, begun["generation"]):
            return {"updated": 0, "unchanged": 1}
        item_reader = self._versions.item_reader(job.domain)

        def changed(before: StoredItem) -> StoredItem:
            after = item_reader.patched(before, patch)
            item_reader.settle()
            return after

        stored: Upserted = progress.retry_until_available(
            lambda: self._writer.change(job.domain, item_id, changed, incarnation)
        )
        return {"updated": stored.updated, "unchanged": stored.unchanged}

    def remove_body(self, job: JobRecord) -> None:
        """Remove the body of a job that ended."""
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: JobRecord) -> Path:
        return self._folder / str(job.detail["file"])


def _check_size(size: int, limit: int, *, ndjson: bool) -> None:
    if size > limit:
        hint = "" if ndjson else "; send it as application/x-ndjson, one item a line"
        raise PayloadTooLarge(f"more than {limit} bytes of items{hint}")
