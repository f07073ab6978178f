"""The versioned store: `<root>/<domain>/<version>/{bundle.safetensors, card.json}`,
`activations.jsonl` beside.

A version appears by one rename and never changes; its number is never given twice, also not after a
delete. One writer a domain, by a file lock that the kernel drops when its holder dies. Whoever
writes also asks, under that lock, a fence: it raises where the domain was removed meanwhile, so
that nothing of it appears in a later one of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_store.activations import Activation, complete_copy, record
from adapters_store.bundle import Bundle, open_bundle
from adapters_store.card import Card
from adapters_store.domains import REMOVING, lock_domain
from adapters_store.errors import (
    BundleError,
    BundleProblem,
    NothingBefore,
    StoreDamaged,
    VersionInUse,
)
from adapters_store.lost_log import COPIED, mark
from adapters_store.quoting import quote
from adapters_store.removal import begin_removal, clear
from adapters_store.store_reader import StoreReader
from adapters_store.upload import Sealed, Upload, sweep
from adapters_store.versions import delete_version, list_versions, put_version, write_pins

CheckBundle = Callable[[Bundle], list[BundleProblem]]
Fence = Callable[[], object]
"""Raises where the caller may no longer write to a domain."""


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` did; `created` is False where the same bytes were there already."""

    card: Card
    created: bool

    @property
    def version(self) -> int:
        """The version's number."""
        return self.card.version


def _unfenced() -> None:
    """Let everybody write."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback did; `skipped` are versions of the history that were deleted since."""

    activation: Activation
    skipped: list[int]


class Store(StoreReader):
    """Bundles by domain and version, and what of them is live."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._incoming = folder / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        sweep(self._incoming)
        self._copy_activations()

    def receive(self, max_bytes: int) -> Upload:
        """Open a temporary sibling to stream a bundle into; a context manager that leaves nothing
        behind.

        Raises:
            OutOfSpace: no room even to begin.
        """
        return Upload(self._incoming, max_bytes)

    def add(
        self, domain: str, source: Sealed | Path, check: CheckBundle, fence: Fence = _unfenced
    ) -> Added:
        """Accept a bundle as the domain's next version; the same bytes again are the version they
        already are.

        Args:
            domain: where it belongs; the manifest must agree.
            source: a sealed upload, which is moved in, or a file, which is copied.
            check: returns every problem that stands against the bundle.
            fence: called under the domain's lock; raises where the domain was removed.

        Raises:
            BundleError: with every problem; UnsupportedFormat; OutOfSpace; InvalidName. Nothing is
                left behind.
        """
        if isinstance(source, Path):
            with self.receive(source.stat().st_size) as upload, source.open("rb") as file:
                while chunk := file.read(1 << 20):
                    upload.write(chunk)
                return self.add(domain, upload.seal(), check, fence)
        bundle = open_bundle(source.path, source.digest)
        problems = check(bundle)
        if bundle.manifest.domain != domain:
            detail = (
                f"the manifest names domain {bundle.manifest.domain!r}, the upload {quote(domain)}"
            )
            problems.append(BundleProblem("manifest", detail, None, domain, bundle.manifest.domain))
        if problems:
            raise BundleError(problems)
        with self._writing(domain, fence) as home:
            same = [card for card in self.versions(domain) if card.digest == source.digest]
            if same:
                return Added(same[0], created=False)
            return Added(put_version(home, source, bundle), created=True)

    def delete(self, domain: str, version: int, fence: Fence = _unfenced) -> None:
        """Delete a version; its number stays taken.

        Raises:
            VersionNotFound: no such version.
            VersionInUse: it is live, a canary, pinned, or a rollback would return to it.
        """
        with self._writing(domain, fence) as home:
            self._place(domain, version)
            role = self.current(domain).in_use.get(version)
            if role is not None:
                raise VersionInUse(f"{domain}@{version} is {role}: activate another version first")
            if version in self.pinned(domain):
                raise VersionInUse(f"{domain}@{version} is pinned: unpin it first")
            delete_version(home, version)

    def pin(self, domain: str, version: int, *, pinned: bool, fence: Fence = _unfenced) -> None:
        """Write down, synced, that a version is to be kept, warm and undeleted, or no longer.

        Raises:
            VersionNotFound: no such version; OutOfSpace: nothing was written.
        """
        with self._writing(domain, fence) as home:
            self._place(domain, version)
            others = [one for one in self.pinned(domain) if one != version]
            write_pins(home, sorted([*others, version]) if pinned else others)

    def record_activation(
        self, domain: str, version: int | None, reason: str, fence: Fence = _unfenced
    ) -> Activation:
        """Write down, synced, that a version (None: the frozen backbone) is live from now on.

        `fence` is called under the domain's lock, and raises where the caller may no longer write.

        Raises:
            VersionNotFound: no such version.
            OutOfSpace: nothing was written.
        """
        return self._record(
            domain,
            version,
            lambda activation: activation.activated(version, reason),
            fence,
            begin=True,
        )

    def record_canary(
        self,
        domain: str,
        version: int | None,
        percent: int,
        reason: str,
        fence: Fence = _unfenced,
        gate: dict[str, Any] | None = None,
    ) -> Activation:
        """Write down, synced, that a version answers a percentage of the users, and its gate; 0
        ends the canary.

        Raises:
            As `record_activation`.
        """
        return self._record(
            domain,
            version,
            lambda activation: activation.with_canary(version, percent, reason, gate),
            fence,
        )

    def rollback(self, domain: str, fence: Fence = _unfenced) -> Rollback:
        """Write down, synced, that a canary ends or, without one, that an earlier version is live
        again.

        Rollbacks walk back through the history, one version at a time; a version that was deleted
        is skipped.

        Raises:
            NothingBefore: there is neither; OutOfSpace: nothing was written.
        """
        with self._writing(domain, fence) as home:
            current = self.current(domain)
            if current.percent:
                return Rollback(record(home, current.with_canary(None, 0, "rollback")), [])
            there, skipped = self.before(domain)
            if not there:
                raise NothingBefore(
                    f"{domain} has no earlier version to go back to: {list_versions(home)}"
                )
            # What the next rollback returns to is written down, too: it is kept warm and undeleted.
            further = there[1] if len(there) > 1 else there[0]
            return Rollback(record(home, current.rolled_back(there[0], further)), skipped)

    def remove_domain(
        self, domain: str, then: Callable[[], object] = _unfenced, fence: Fence = _unfenced
    ) -> None:
        """Remove all that is kept of a domain, its numbers and log too.

        `then` forgets the domain elsewhere, under its lock: its fence stops whoever waits to write.
        Where `then` raises, nothing is removed. A crash after it leaves a mark, by which
        `finish_removal` goes on.
        """
        with self._writing(domain, fence) as home:
            begin_removal(home)
            then()
            clear(home)

    def finish_removal(self, domain: str) -> None:
        """Remove what an interrupted removal left of a domain that does not exist any more."""
        home = self._home(domain)
        if not (home / REMOVING).exists():
            return
        with lock_domain(home):
            if (home / REMOVING).exists():
                clear(home)

    def keep_domain(self, domain: str, fence: Fence) -> None:
        """Take back the mark of a removal that did not happen."""
        with self._writing(domain, fence) as home:
            (home / REMOVING).unlink(missing_ok=True)

    def _copy_activations(self) -> None:
        """Give domains of an earlier version of swaprec
        the copy of their current activation, once.
        """
        if (self.folder / COPIED).exists():
            return
        domains = self.domains()
        for domain in domains:
            with self._writing(domain) as home:
                complete_copy(home)
        for domain in domains:
            mark(self.folder / domain)

    def _record(
        self,
        domain: str,
        version: int | None,
        change: Callable[[Activation], Activation],
        fence: Fence,
        *,
        begin: bool = False,
    ) -> Activation:
        with self._writing(domain, fence) as home:
            if version is not None:
                self._place(domain, version)
            try:
                current = self.current(domain)
            except StoreDamaged:
                if not begin:
                    raise
                # What was live is not known: from here on it is.
                current = Activation.at_first()
            return record(home, change(current))

    @contextmanager
    def _writing(self, domain: str, fence: Fence = _unfenced) -> Iterator[Path]:
        """Hold a domain's lock after its fence let the caller pass."""
        home = self._home(domain)
        if not home.is_dir():  # so that a domain that was removed leaves no folder
            fence()
        with lock_domain(home):
            fence()
            yield home
