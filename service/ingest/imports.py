"""Items in bulk: a body that was spooled to a file is stored row by row in transactions, and made
searchable.

What was spooled and acknowledged as a job is resumed after a crash; storing an item twice changes
nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.content.import_batch import Merge, UnknownTokens
from service.content.import_rows import BATCH_ROWS, MAX_ROW_BYTES, Check, RowReport, read_batches
from service.embedding.versions import Versions
from service.errors import PayloadTooLarge
from service.ingest.spool import Spool
from service.ingest.writer import CatalogWriter, RetryUntilAvailable
from service.jobs import Jobs, Progress
from service.live.compaction import Compactor
from service.state import CatalogJobs, JobRecord, Upserted
from service.wire.requests import ItemBody, ItemPatch
from transrec.progress import OnProgress

KIND = "import"
PATCH = "patch"
BULK_IMPORT_ROWS = 10_000
"""A job that imports more items makes them searchable at its end,
by a compaction, and not step by step.
"""
KEEP_EVERY_S = 1.0
"""How often it is written down how far an import
of rejected rows is: the report may be a megabyte.
"""

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
    """Imports bodies that were spooled, now or as a job."""

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
        self.spool = Spool(folder, max_spool_bytes)
        self._state = state
        self._versions = versions
        self._writer = writer
        self._compactor = compactor
        self._jobs = jobs
        waiting = [job for job in jobs.unended() if job.kind in (KIND, PATCH)]
        self.spool.sweep({job.detail["file"] for job in waiting})

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
        return self.submit(domain, self.spool.write(row), incarnation, replaces="true")

    def submit_patch(
        self, domain: str, item_id: str, patch: ItemPatch, incarnation: str
    ) -> JobRecord:
        """Change an item as a job.

        Raises:
            OutOfSpace: nothing is left.
        """
        spooled = self.spool.write(patch.model_dump_json(exclude_unset=True).encode())
        return self.submit(domain, spooled, incarnation, PATCH, item_id=item_id)

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
        try:
            self._jobs.check_room(domain)
            kept = self.spool.keep(spooled)
            return self._jobs.submit(kind, domain, {"file": kept.name, **detail}, incarnation)
        except BaseException:
            self.spool.remove(spooled)
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
        change = self._versions.item_reader(job.domain).bind_patch(patch)
        stored: Upserted = progress.retry_until_available(
            lambda: self._writer.change(job.domain, item_id, change, incarnation)
        )
        return {"updated": stored.updated, "unchanged": stored.unchanged}

    def remove_body(self, job: JobRecord) -> None:
        """Remove the body of a job that ended."""
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: JobRecord) -> Path:
        return self.spool.folder / str(job.detail["file"])
