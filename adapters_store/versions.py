"""The versions in a domain's folder: which there are, and how one appears, by one rename."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from adapters_store.activations import Activation, read_current, write_copy
from adapters_store.bundle import Bundle, read_bundle
from adapters_store.card import Card, make_card
from adapters_store.clock import now
from adapters_store.domains import BUNDLE, CARD, DELETED, PINNED
from adapters_store.errors import BundleError, BundleProblem
from adapters_store.files import PART, atomic_write, room_or_error, sync_folder
from adapters_store.lost_log import mark
from adapters_store.upload import Sealed

MAX_LISTED_VERSIONS = 20


def has_version(home: Path, version: int) -> bool:
    """Whether a domain has a version that was not deleted."""
    place = home / str(version)
    return (place / CARD).is_file() and not (place / DELETED).exists()


def find_versions(home: Path) -> Iterator[int]:
    """Yield the numbers of a domain's versions that were not deleted,
    in order; none where there is no folder.
    """
    numbers = sorted(_numbers(home)) if home.is_dir() else []
    return (number for number in numbers if has_version(home, number))


def list_versions(home: Path) -> str:
    """Say in an error which versions a domain has."""
    existing = list(find_versions(home))
    if not existing:
        return "it has none"
    shown = ", ".join(map(str, existing[-MAX_LISTED_VERSIONS:]))
    more = len(existing) > MAX_LISTED_VERSIONS
    return f"it has {shown}" + (
        f", the last {MAX_LISTED_VERSIONS} of {len(existing)}" if more else ""
    )


def put_version(home: Path, source: Sealed, bundle: Bundle) -> Card:
    """Move a sealed upload in as the next version; the caller holds the domain's lock.

    Raises:
        OutOfSpace: nothing is left behind.
    """
    number = 1 + max(_numbers(home), default=0)
    card = make_card(
        home.name,
        number,
        bundle.manifest,
        digest=source.digest,
        size=source.size,
        uploaded_at=now(),
    )
    temporary = home / f".{number}{PART}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with room_or_error(home):
            # From here on a log that is missing is a log that was lost.
            if read_current(home) is None:
                write_copy(home, Activation.at_first())
            mark(home)
            temporary.mkdir()
            source.path.rename(temporary / BUNDLE)
            atomic_write(temporary / CARD, json.dumps(card.to_json()).encode())
            temporary.rename(home / str(number))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(home)
    return card


def delete_version(home: Path, version: int) -> None:
    """Delete a version's file; its number stays taken."""
    place = home / str(version)
    atomic_write(place / DELETED, now().encode())
    (place / BUNDLE).unlink(missing_ok=True)


def read_pins(home: Path) -> list[int]:
    """Return the versions that are pinned, in order."""
    try:
        found: list[int] = json.loads((home / PINNED).read_bytes())
    except (FileNotFoundError, ValueError):  # a damaged one costs the pins only
        return []
    return found


def write_pins(home: Path, versions: list[int]) -> None:
    """Write down, synced, which versions are pinned.

    Raises:
        OutOfSpace: nothing was written.
    """
    with room_or_error(home):
        atomic_write(home / PINNED, json.dumps(versions).encode())


def open_version(path: Path, card: Card) -> Bundle:
    """Read a version's file and check its bytes against the digest it came with.

    Raises:
        BundleError: the file on the disk is no longer the one that was accepted.
    """
    bundle = read_bundle(path, stored=True)
    if bundle.digest != card.digest:
        name = f"{card.domain}@{card.version}"
        detail = (
            f"{name} on the disk has digest {bundle.digest[:12]}, accepted was {card.digest[:12]}"
        )
        raise BundleError(
            [
                BundleProblem(
                    "digest", f"{detail}: upload it again", None, card.digest, bundle.digest
                )
            ]
        )
    return bundle


def _numbers(home: Path) -> list[int]:
    """Return all numbers ever given, in no order."""
    return [int(path.name) for path in home.iterdir() if path.name.isdigit()]
