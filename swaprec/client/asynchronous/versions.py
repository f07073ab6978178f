"""Versions of a domain: upload, look, make live, go back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from service.wire.responses import AdapterCard, Job, RolledBack, VersionName
from swaprec.client import calls
from swaprec.client.asynchronous.connection import AsyncConnection
from swaprec.client.calls import OnJob
from swaprec.client.download import Download
from swaprec.client.wire import refusal


class AsyncVersions(AsyncConnection):
    """Uploads versions and chooses which one answers."""

    async def push(
        self,
        bundle: Path,
        *,
        activate: bool = False,
        create: bool = False,
        gate: Mapping[str, float] | None = None,
        on_job: OnJob | None = None,
    ) -> AdapterCard:
        """Upload a bundle; with `activate` wait until it is live. Returns the version's card.

        `gate` are thresholds that it must reach on the domain's probes, such as `{"max_drop":
        0.05}`.

        Raises:
            ProblemError: also when the activation fails; the old version then goes on serving.
        """
        with bundle.open("rb") as file:
            card = await self._do(
                calls.upload((bundle.name, file), activate=activate, create=create, gate=gate)
            )
        if "job" in card:
            await self.wait(card.pop("job"), on_job)
        return card

    async def versions(self, domain: str | None = None) -> list[AdapterCard]:
        """List versions, of all domains or of one."""
        return (await self._do(calls.versions(domain)))["items"]

    async def version(self, domain: str, version: int) -> AdapterCard:
        """Show a version's card."""
        return await self._do(calls.version(domain, version))

    async def download(self, domain: str, version: int, path: Path) -> Path:
        """Fetch a version's bundle, compare its digest with the card's, and put it at `path`.

        Raises:
            OSError: it cannot be written, or what came is not what the card names; `path` is as it
                was.
        """
        digest = (await self.version(domain, version))["digest"]
        with Download(path, digest) as part:
            async with self._http.stream("GET", calls.file_path(domain, version)) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise refusal(answer)
                async for chunk in answer.aiter_bytes():
                    part.write(chunk)
        return path

    async def delete_version(self, domain: str, version: int) -> None:
        """Delete a version."""
        await self._do(calls.delete_version(domain, version))

    async def activate(
        self,
        domain: str,
        version: VersionName,
        on_job: OnJob | None = None,
        *,
        canary_percent: int = 0,
        gate: Mapping[str, float] | None = None,
    ) -> Job:
        """Make a version, or `none`, live; returns the ended job.

        Args:
            domain: which one.
            version: a number, or none.
            on_job: called with the job at each step.
            canary_percent: answer so many of a hundred users only.
            gate: thresholds that it must reach on the domain's probes.
        """
        call = calls.activate(domain, version, canary_percent, gate)
        return await self.wait(await self._do(call), on_job)

    async def promote(self, domain: str, version: int) -> RolledBack:
        """Make a canary live for everybody."""
        return await self._do(calls.promote(domain, version))

    async def pin(self, domain: str, version: int, *, pinned: bool = True) -> AdapterCard:
        """Keep a version in memory and undeleted, or no longer."""
        return await self._do(calls.pin(domain, version, pinned=pinned))

    async def rollback(self, domain: str) -> RolledBack:
        """Go back to the version that was live before."""
        return await self._do(calls.rollback(domain))
