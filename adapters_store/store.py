"""The versioned store: `<root>/<domain>/<version>/{bundle.safetensors, card.json}`, `activations.jsonl` beside.

A version appears by one rename and never changes; its number is never given twice, also not after a delete. One
writer a domain, by a file lock that the kernel drops when its holder dies. Whoever writes also asks, under that lock, a
fence: it raises where the domain was removed meanwhile, so that nothing of it appears in a later one of its name.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from adapters_store.activations import (
    LOG,
    Activation,
    now,
    read_copy,
    read_current,
    read_log,
    record,
    versions_before,
    write_copy,
)
from adapters_store.bundle import Bundle, open_bundle, read_bundle
from adapters_store.card import Card, make_card, read_card
from adapters_store.errors import (
    BundleError,
    InvalidName,
    NothingBefore,
    OutOfSpace,
    Problem,
    StoreDamaged,
    VersionInUse,
    VersionNotFound,
)
from adapters_store.files import PART, room_or_error, sync_folder, write_beside
from adapters_store.quoting import quote
from adapters_store.upload import Sealed, Upload, sweep

BUNDLE, CARD, DELETED, LOCK = "bundle.safetensors", "card.json", "deleted", ".lock"
PINNED = "pinned.json"
REMOVING = "removing"
"""Says since when a domain is being removed."""

COPIED = ".copied"
"""A folder that says that every domain with versions has a copy of its current activation; it holds a file for each.

The file stands outside the domain's own folder, so that a folder that is gone as a whole is missed.
"""
MOST_LISTED = 20
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

Check = Callable[[Bundle], list[Problem]]
Fence = Callable[[], object]
"""Raises where the caller may no longer write to a domain."""


def check_domain_name(name: str) -> str:
    """Return the name if it is one; it becomes the name of a folder.

    Raises:
        InvalidName: saying what a name looks like.
    """
    if not _DOMAIN.fullmatch(name):
        raise InvalidName(
            f"domain name {quote(name)}: expected 1 to 63 of a-z 0-9 . - _, beginning with a letter or digit"
        )
    return name


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
class RolledBack:
    """What a rollback did; `skipped` are versions of the history that were deleted since."""

    activation: Activation
    skipped: list[int]


class Store:
    """Bundles by domain and version, and what of them is live."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        sweep(self._incoming)
        self._copy_activations()

    def receive(self, max_bytes: int) -> Upload:
        """Open a temporary sibling to stream a bundle into; a context manager that leaves nothing behind.

        Raises:
            OutOfSpace: no room even to begin.
        """
        return Upload(self._incoming, max_bytes)

    def add(self, domain: str, source: Sealed | Path, check: Check, fence: Fence = _unfenced) -> Added:
        """Accept a bundle as the domain's next version; the same bytes again are the version they already are.

        Args:
            domain: where it belongs; the manifest must agree.
            source: a sealed upload, which is moved in, or a file, which is copied.
            check: returns every problem that stands against the bundle.
            fence: called under the domain's lock; raises where the domain was removed.

        Raises:
            BundleError: with every problem; UnsupportedFormat; OutOfSpace; InvalidName. Nothing is left behind.
        """
        if isinstance(source, Path):
            with self.receive(source.stat().st_size) as upload, source.open("rb") as file:
                while chunk := file.read(1 << 20):
                    upload.write(chunk)
                return self.add(domain, upload.seal(), check, fence)
        bundle = open_bundle(source.path, source.digest)
        problems = check(bundle)
        if bundle.manifest.domain != domain:
            detail = f"the manifest names domain {bundle.manifest.domain!r}, the upload {quote(domain)}"
            problems.append(Problem("manifest", detail, None, domain, bundle.manifest.domain))
        if problems:
            raise BundleError(problems)
        with self._writing(domain, fence) as home:
            same = [card for card in self.versions(domain) if card.digest == source.digest]
            if same:
                return Added(same[0], created=False)
            return Added(self._put(home, domain, source, bundle), created=True)

    def versions(self, domain: str) -> list[Card]:
        """List a domain's versions, oldest first; none for a domain that has none."""
        home = self._home(domain)
        numbers = sorted(int(path.name) for path in home.glob("*") if path.name.isdigit()) if home.is_dir() else []
        there = (number for number in numbers if self.has(domain, number))
        return [self.card(domain, number) for number in there]

    def has(self, domain: str, version: int) -> bool:
        """Whether a domain has a version that was not deleted."""
        place = self._home(domain) / str(version)
        return (place / CARD).is_file() and not (place / DELETED).exists()

    def domains(self) -> list[str]:
        """Name the domains that have ever had a version or an activation."""
        return domains_in(self.folder)

    def card(self, domain: str, version: int) -> Card:
        """Return a version's card.

        Raises:
            VersionNotFound: naming those that exist.
        """
        return read_card((self._place(domain, version) / CARD).read_bytes(), domain, version)

    def bundle_path(self, domain: str, version: int) -> Path:
        """Return where a version's file lies.

        Raises:
            VersionNotFound: naming those that exist.
        """
        return self._place(domain, version) / BUNDLE

    def open(self, domain: str, version: int) -> Bundle:
        """Read a version and check its bytes against the digest it came with.

        Raises:
            VersionNotFound: no such version.
            BundleError: the file on the disk is no longer the one that was accepted.
        """
        card, bundle = self.card(domain, version), read_bundle(self.bundle_path(domain, version), stored=True)
        if bundle.digest != card.digest:
            detail = f"{domain}@{version} on the disk has digest {bundle.digest[:12]}, accepted was {card.digest[:12]}"
            raise BundleError([Problem("digest", f"{detail}: upload it again", None, card.digest, bundle.digest)])
        return bundle

    def delete(self, domain: str, version: int, fence: Fence = _unfenced) -> None:
        """Delete a version; its number stays taken.

        Raises:
            VersionNotFound: no such version.
            VersionInUse: it is live, a canary, pinned, or a rollback would return to it.
        """
        with self._writing(domain, fence):
            place = self._place(domain, version)
            role = self.standing(domain).in_use.get(version)
            if role is not None:
                raise VersionInUse(f"{domain}@{version} is {role}: activate another version first")
            if version in self.pinned(domain):
                raise VersionInUse(f"{domain}@{version} is pinned: unpin it first")
            write_beside(place / DELETED, now().encode())
            (place / BUNDLE).unlink(missing_ok=True)

    def pin(self, domain: str, version: int, *, pinned: bool, fence: Fence = _unfenced) -> None:
        """Write down, synced, that a version is to be kept, warm and undeleted, or no longer.

        Raises:
            VersionNotFound: no such version; OutOfSpace: nothing was written.
        """
        with self._writing(domain, fence) as home:
            self._place(domain, version)
            others = [one for one in self.pinned(domain) if one != version]
            wanted = sorted([*others, version]) if pinned else others
            with room_or_error(home):
                write_beside(home / PINNED, json.dumps(wanted).encode())

    def pinned(self, domain: str) -> list[int]:
        """Return the versions that are pinned, in order."""
        try:
            found: list[int] = json.loads((self._home(domain) / PINNED).read_bytes())
        except (FileNotFoundError, ValueError):  # a damaged one costs the pins only
            return []
        return found

    def record_activation(self, domain: str, version: int | None, reason: str, fence: Fence = _unfenced) -> Activation:
        """Write down, synced, that a version (None: the frozen backbone) is live from now on.

        `fence` is called under the domain's lock, and raises where the caller may no longer write.

        Raises:
            VersionNotFound: no such version.
            OutOfSpace: nothing was written.
        """
        return self._record(domain, version, lambda stands: stands.activated(version, reason), fence, begin=True)

    def record_canary(
        self,
        domain: str,
        version: int | None,
        percent: int,
        reason: str,
        fence: Fence = _unfenced,
        gate: dict[str, Any] | None = None,
    ) -> Activation:
        """Write down, synced, that a version answers a percentage of the users, and its gate; 0 ends the canary.

        Raises:
            As `record_activation`.
        """
        return self._record(domain, version, lambda stands: stands.with_canary(version, percent, reason, gate), fence)

    def rollback(self, domain: str, fence: Fence = _unfenced) -> RolledBack:
        """Write down, synced, that a canary ends or, without one, that an earlier version is live again.

        Rollbacks walk back through the history, one version at a time; a version that was deleted is skipped.

        Raises:
            NothingBefore: there is neither; OutOfSpace: nothing was written.
        """
        with self._writing(domain, fence) as home:
            current = self.standing(domain)
            if current.percent:
                return RolledBack(record(home, current.with_canary(None, 0, "rollback")), [])
            there, skipped = self.before(domain)
            if not there:
                raise NothingBefore(f"{domain} has no earlier version to go back to: {self._listed(domain)}")
            # What the next rollback returns to is written down, too: it is kept warm and undeleted.
            further = there[1] if len(there) > 1 else there[0]
            return RolledBack(record(home, current.rolled_back(there[0], further)), skipped)

    def before(self, domain: str) -> tuple[list[int | None], list[int]]:
        """Return what rollbacks return to, the next one first, and the deleted versions that the next one skips."""
        current, history = self.standing(domain), self.activations(domain)
        if not history or history[-1].number != current.number:  # the log lost lines
            history = [current]
        there: list[int | None] = []
        skipped: list[int] = []
        for version in versions_before(history):
            if version is None or self.has(domain, version):
                if version != (there[-1] if there else current.version):
                    there.append(version)
            elif not there:
                skipped.append(version)
        return there, skipped

    def standing(self, domain: str) -> Activation:
        """Return what of a domain is live, a canary, or what a rollback returns to.

        Raises:
            StoreDamaged: the log and its copy are damaged or gone.
        """
        home = self._home(domain)
        found = read_current(home)
        if found is not None:
            return found
        if not is_log_lost(home):
            return Activation.at_first()
        raise StoreDamaged(
            f"what was live in {domain} is not known: {home / LOG} and its copy are damaged or gone. "
            f"Activate a version ({self._listed(domain)}) or none, or bring the files back from a backup"
        )

    def activations(self, domain: str) -> list[Activation]:
        """Return the activation log, oldest first."""
        return read_log(self._home(domain) / LOG)

    def live(self, domain: str) -> int | None:
        """Return the version that is live, None for the frozen backbone."""
        return self.standing(domain).version

    def previous(self, domain: str) -> int | None:
        """Return what was live before the live version, None for the frozen backbone."""
        return self.standing(domain).previous

    def remove_domain(self, domain: str, then: Callable[[], object] = _unfenced, fence: Fence = _unfenced) -> None:
        """Remove all that is kept of a domain, its numbers and log too.

        `then` forgets the domain elsewhere, under its lock: whoever waits to write is told by its fence. Where `then`
        raises, nothing is removed. A crash after it leaves a mark, by which `finish_removal` goes on.
        """
        with self._writing(domain, fence) as home:
            with suppress(OutOfSpace):  # a removal is what makes room
                write_beside(home / REMOVING, now().encode())
            then()
            self._clear(home)

    def half_removed(self) -> list[str]:
        """Name the domains whose removal was begun and has not ended."""
        return [path.parent.name for path in sorted(self.folder.glob(f"*/{REMOVING}"))]

    def finish_removal(self, domain: str) -> None:
        """Remove what an interrupted removal left of a domain that does not exist any more."""
        home = self._home(domain)
        if not (home / REMOVING).exists():
            return
        with self._locked(home):
            if (home / REMOVING).exists():
                self._clear(home)

    def keep_domain(self, domain: str, fence: Fence) -> None:
        """Take back the mark of a removal that did not happen."""
        with self._writing(domain, fence) as home:
            (home / REMOVING).unlink(missing_ok=True)

    def _clear(self, home: Path) -> None:
        """Remove a domain's folder, the mark of its removal and its lock last."""
        _mark_of(home).unlink(missing_ok=True)
        for path in home.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (LOCK, REMOVING):
                path.unlink()
        for name in (REMOVING, LOCK):
            (home / name).unlink(missing_ok=True)
        try:
            home.rmdir()
        except OSError as error:
            # Somebody who waited to write made a lock anew: the fence tells him, or he writes for the next domain.
            if error.errno != errno.ENOTEMPTY:
                raise
        sync_folder(self.folder)

    def _copy_activations(self) -> None:
        """Give domains of an earlier version of swaprec the copy of their current activation, once."""
        if (self.folder / COPIED).exists():
            return
        domains = self.domains()
        for domain in domains:
            with self._writing(domain) as home:
                if read_copy(home) is None:
                    write_copy(home, read_current(home) or Activation.at_first())
        for domain in domains:
            _mark(self.folder / domain)

    def _listed(self, domain: str) -> str:
        existing = [card.version for card in self.versions(domain)]
        if not existing:
            return "it has none"
        shown = ", ".join(map(str, existing[-MOST_LISTED:]))
        return f"it has {shown}" + (
            f", the last {MOST_LISTED} of {len(existing)}" if len(existing) > MOST_LISTED else ""
        )

    def _put(self, home: Path, domain: str, source: Sealed, bundle: Bundle) -> Card:
        number = 1 + max((int(path.name) for path in home.iterdir() if path.name.isdigit()), default=0)
        card = make_card(domain, number, bundle.manifest, digest=source.digest, size=source.size, uploaded_at=now())
        beside = home / f".{number}{PART}"
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with room_or_error(home):
                if read_current(home) is None:  # from here on a log that is missing is a log that was lost
                    write_copy(home, Activation.at_first())
                _mark(home)
                beside.mkdir()
                source.path.rename(beside / BUNDLE)
                write_beside(beside / CARD, json.dumps(card.to_json()).encode())
                beside.rename(home / str(number))
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        sync_folder(home)
        return card

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
                current = self.standing(domain)
            except StoreDamaged:
                if not begin:
                    raise
                # What was live is not known: from here on it is.
                current = Activation.at_first()
            return record(home, change(current))

    def _home(self, domain: str) -> Path:
        return self.folder / check_domain_name(domain)

    def _place(self, domain: str, version: int) -> Path:
        if not self.has(domain, version):
            raise VersionNotFound(f"{domain} has no version {version}: {self._listed(domain)}")
        return self._home(domain) / str(version)

    @contextmanager
    def _writing(self, domain: str, fence: Fence = _unfenced) -> Iterator[Path]:
        """Hold a domain's lock after its fence let the caller pass."""
        home = self._home(domain)
        if not home.is_dir():  # so that a domain that was removed leaves no folder
            fence()
        with self._locked(home):
            fence()
            yield home

    @contextmanager
    def _locked(self, home: Path) -> Iterator[None]:
        while True:
            with room_or_error(home):
                home.mkdir(exist_ok=True)
                try:
                    lock = (home / LOCK).open("w")
                except FileNotFoundError:  # the domain was removed in between
                    continue
            with lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if _is_file_at(lock, home / LOCK):
                    yield
                    return


def domains_in(folder: Path) -> list[str]:
    """Name the domains of a store's folder, which need not be there; nothing is opened or made."""
    if not folder.is_dir():
        return []
    there = (path for path in folder.iterdir() if _DOMAIN.fullmatch(path.name) and path.is_dir())
    return sorted(path.name for path in there if any(entry.name != LOCK for entry in path.iterdir()))


def is_log_lost(home: Path) -> bool:
    """Whether a domain had versions, and with them an activation log and its copy, and now has neither."""
    if read_current(home) is not None:
        return False
    has_versions = any(path.name.isdigit() for path in home.glob("*"))
    return _mark_of(home).exists() or (has_versions and (home.parent / COPIED).exists())


def lost_logs(folder: Path) -> list[str]:
    """Name the domains of a store's folder of which nobody knows what was live."""
    marked = (path.name for path in (folder / COPIED).glob("*"))
    return sorted(name for name in {*domains_in(folder), *marked} if is_log_lost(folder / name))


def _mark_of(home: Path) -> Path:
    return home.parent / COPIED / home.name


def _mark(home: Path) -> None:
    """Note that a domain has versions."""
    place = _mark_of(home)
    place.parent.mkdir(exist_ok=True)
    place.touch()


def _is_file_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at its path: a removed domain's lock is another file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), found)
