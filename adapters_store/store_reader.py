"""What a store holds, read only: versions and their bundles, pins, and what is live."""

from __future__ import annotations

from pathlib import Path

from adapters_store.activations import LOG, Activation, find_returns, read_current, read_log
from adapters_store.bundle import Bundle
from adapters_store.card import Card, read_card
from adapters_store.domains import BUNDLE, CARD, check_domain_name, domains_in
from adapters_store.errors import StoreDamaged, VersionNotFound
from adapters_store.lost_log import is_log_lost
from adapters_store.removal import half_removed
from adapters_store.versions import (
    find_versions,
    has_version,
    list_versions,
    open_version,
    read_pins,
)


class StoreReader:
    """The reading half of `Store`: it makes no folder and takes no lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def versions(self, domain: str) -> list[Card]:
        """List a domain's versions, oldest first; none for a domain that has none."""
        return [self.card(domain, number) for number in find_versions(self._home(domain))]

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
        return open_version(self.bundle_path(domain, version), self.card(domain, version))

    def has(self, domain: str, version: int) -> bool:
        """Whether a domain has a version that was not deleted."""
        return has_version(self._home(domain), version)

    def domains(self) -> list[str]:
        """Name the domains that have ever had a version or an activation."""
        return domains_in(self.folder)

    def pinned(self, domain: str) -> list[int]:
        """Return the versions that are pinned, in order."""
        return read_pins(self._home(domain))

    def current(self, domain: str) -> Activation:
        """Return the current activation of a domain: its live version, its canary, and what a
        rollback returns to.

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
            f"what was live in {domain} is not known: {home / LOG} and its copy are damaged or"
            f" gone. Activate a version ({list_versions(home)}) or none, or bring the files back"
            " from a backup"
        )

    def live(self, domain: str) -> int | None:
        """Return the version that is live, None for the frozen backbone."""
        return self.current(domain).version

    def activations(self, domain: str) -> list[Activation]:
        """Return the activation log, oldest first."""
        return read_log(self._home(domain) / LOG)

    def before(self, domain: str) -> tuple[list[int | None], list[int]]:
        """Return what rollbacks return to,
        the next one first, and the deleted versions that the next one skips.
        """
        current = self.current(domain)
        history = self.activations(domain)
        return find_returns(current, history, lambda version: self.has(domain, version))

    def half_removed(self) -> list[str]:
        """Name the domains whose removal was begun and has not ended."""
        return half_removed(self.folder)

    def _home(self, domain: str) -> Path:
        return self.folder / check_domain_name(domain)

    def _place(self, domain: str, version: int) -> Path:
        home = self._home(domain)
        if not has_version(home, version):
            raise VersionNotFound(f"{domain} has no version {version}: {list_versions(home)}")
        return home / str(version)
