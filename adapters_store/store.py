"""The versioned store: `<root>/<domain>/<version>/{bundle.safetensors, card.json}`, `activations.jsonl` beside.

A version appears by one rename and never changes; its number is never given twice, also not after a delete. One
writer a domain, by a file lock that the kernel drops when its holder dies.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_store.activations import Activation, append_to_log, last_of, now, read_log
from adapters_store.bundle import Bundle, open_bundle, read_bundle
from adapters_store.card import Card, make_card, read_card
from adapters_store.errors import BundleError, InvalidName, NothingBefore, Problem, VersionInUse, VersionNotFound
from adapters_store.files import PART, room_or_error, sync_folder, write_beside
from adapters_store.quoting import quote
from adapters_store.upload import Sealed, Upload, sweep

BUNDLE, CARD, DELETED, LOG, LOCK = "bundle.safetensors", "card.json", "deleted", "activations.jsonl", ".lock"
PINNED = "pinned.json"
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

Check = Callable[[Bundle], list[Problem]]


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


class Store:
    """Bundles by domain and version, and what of them is live."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        sweep(self._incoming)

    def receive(self, max_bytes: int) -> Upload:
        """Open a temporary sibling to stream a bundle into; a context manager that leaves nothing behind.

        Raises:
            OutOfSpace: no room even to begin.
        """
        return Upload(self._incoming, max_bytes)

    def add(self, domain: str, source: Sealed | Path, check: Check) -> Added:
        """Accept a bundle as the domain's next version; the same bytes again are the version they already are.

        Args:
            domain: where it belongs; the manifest must agree.
            source: a sealed upload, which is moved in, or a file, which is copied.
            check: returns every problem that stands against the bundle.

        Raises:
            BundleError: with every problem; UnsupportedFormat; OutOfSpace; InvalidName. Nothing is left behind.
        """
        if isinstance(source, Path):
            with self.receive(source.stat().st_size) as upload, source.open("rb") as file:
                while chunk := file.read(1 << 20):
                    upload.write(chunk)
                return self.add(domain, upload.seal(), check)
        bundle = open_bundle(source.path, source.digest)
        problems = check(bundle)
        if bundle.manifest.domain != domain:
            detail = f"the manifest names domain {bundle.manifest.domain!r}, the upload {quote(domain)}"
            problems.append(Problem("manifest", detail, None, domain, bundle.manifest.domain))
        if problems:
            raise BundleError(problems)
        with self._writing(domain) as home:
            same = [card for card in self.versions(domain) if card.digest == source.digest]
            if same:
                return Added(same[0], created=False)
            return Added(self._put(home, domain, source, bundle), created=True)

    def versions(self, domain: str) -> list[Card]:
        """List a domain's versions, oldest first; none for a domain that has none."""
        home = self._home(domain)
        numbers = sorted(int(path.name) for path in home.glob("*") if path.name.isdigit()) if home.is_dir() else []
        return [self.card(domain, number) for number in numbers if not (home / str(number) / DELETED).exists()]

    def has(self, domain: str, version: int) -> bool:
        """Whether a domain has a version that was not deleted."""
        place = self._home(domain) / str(version)
        return (place / CARD).is_file() and not (place / DELETED).exists()

    def domains(self) -> list[str]:
        """Name the domains that have ever had a version or an activation."""
        return sorted(path.name for path in self.folder.iterdir() if _DOMAIN.fullmatch(path.name) and path.is_dir())

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

    def delete(self, domain: str, version: int) -> None:
        """Delete a version; its number stays taken.

        Raises:
            VersionNotFound: no such version.
            VersionInUse: it is live, a canary, pinned, or a rollback would return to it.
        """
        with self._writing(domain):
            place = self._place(domain, version)
            role = self.standing(domain).in_use.get(version)
            if role is not None:
                raise VersionInUse(f"{domain}@{version} is {role}: activate another version first")
            if version in self.pinned(domain):
                raise VersionInUse(f"{domain}@{version} is pinned: unpin it first")
            write_beside(place / DELETED, now().encode())
            (place / BUNDLE).unlink(missing_ok=True)

    def pin(self, domain: str, version: int, *, pinned: bool) -> None:
        """Write down, synced, that a version is to be kept, warm and undeleted, or no longer.

        Raises:
            VersionNotFound: no such version; OutOfSpace: nothing was written.
        """
        with self._writing(domain) as home:
            self._place(domain, version)
            others = [one for one in self.pinned(domain) if one != version]
            wanted = sorted([*others, version]) if pinned else others
            with room_or_error(home):
                write_beside(home / PINNED, json.dumps(wanted).encode())

    def pinned(self, domain: str) -> list[int]:
        """Return the versions that are pinned, in order."""
        try:
            found: list[int] = json.loads((self._home(domain) / PINNED).read_bytes())
        except FileNotFoundError:
            return []
        return found

    def record_activation(
        self, domain: str, version: int | None, reason: str, fence: Callable[[], None] = lambda: None
    ) -> Activation:
        """Write down, synced, that a version (None: the frozen backbone) is live from now on.

        `fence` is called under the domain's lock, and raises where the caller may no longer write.

        Raises:
            VersionNotFound: no such version.
            OutOfSpace: nothing was written.
        """
        return self._record(domain, version, lambda stands: stands.activated(version, reason), fence)

    def record_canary(
        self,
        domain: str,
        version: int | None,
        percent: int,
        reason: str,
        fence: Callable[[], None] = lambda: None,
        gate: dict[str, Any] | None = None,
    ) -> Activation:
        """Write down, synced, that a version answers a percentage of the users, and its gate; 0 ends the canary.

        Raises:
            As `record_activation`.
        """
        return self._record(domain, version, lambda stands: stands.with_canary(version, percent, reason, gate), fence)

    def rollback(self, domain: str) -> Activation:
        """Write down, synced, that a canary ends or, without one, that the version before the live one is live.

        Raises:
            NothingBefore: there is neither; OutOfSpace: nothing was written.
        """

        def back(stands: Activation) -> Activation:
            if stands.percent:
                return stands.with_canary(None, 0, "rollback")
            if stands.previous == stands.version:
                raise NothingBefore(f"{domain} has no version to go back to")
            return stands.activated(stands.previous, "rollback")

        with self._writing(domain) as home:
            return append_to_log(home / LOG, back(last_of(home / LOG)))

    def standing(self, domain: str) -> Activation:
        """Return where a domain stands: the log's last line."""
        return last_of(self._home(domain) / LOG)

    def activations(self, domain: str) -> list[Activation]:
        """Return the activation log, oldest first."""
        return read_log(self._home(domain) / LOG)

    def live(self, domain: str) -> int | None:
        """Return the version that is live, None for the frozen backbone."""
        return self.standing(domain).version

    def previous(self, domain: str) -> int | None:
        """Return what was live before the live version, None for the frozen backbone."""
        return self.standing(domain).previous

    def remove_domain(self, domain: str) -> None:
        """Remove all that is kept of a domain, its numbers and log too."""
        home = self._home(domain)
        if not home.is_dir():
            return
        with self._writing(domain):
            gone = self._incoming / f"{domain}{PART}"
            home.rename(gone)
            sync_folder(self.folder)
            shutil.rmtree(gone)

    def _put(self, home: Path, domain: str, source: Sealed, bundle: Bundle) -> Card:
        number = 1 + max((int(path.name) for path in home.iterdir() if path.name.isdigit()), default=0)
        card = make_card(domain, number, bundle.manifest, digest=source.digest, size=source.size, uploaded_at=now())
        beside = home / f".{number}{PART}"
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with room_or_error(home):
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
        fence: Callable[[], None],
    ) -> Activation:
        with self._writing(domain) as home:
            fence()
            if version is not None:
                self._place(domain, version)
            return append_to_log(home / LOG, change(last_of(home / LOG)))

    def _home(self, domain: str) -> Path:
        return self.folder / check_domain_name(domain)

    def _place(self, domain: str, version: int) -> Path:
        if not self.has(domain, version):
            existing = [card.version for card in self.versions(domain)]
            there = f"it has {', '.join(map(str, existing))}" if existing else "it has none"
            raise VersionNotFound(f"{domain} has no version {version}: {there}")
        return self._home(domain) / str(version)

    @contextmanager
    def _writing(self, domain: str) -> Iterator[Path]:
        home = self._home(domain)
        with room_or_error(home):
            home.mkdir(exist_ok=True)
            lock = (home / LOCK).open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield home
