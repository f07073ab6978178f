"""Keys: who may do what.

One small file holds their hashes; a running service follows its changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from adapters_store.clock import now
from adapters_store.domains import check_domain_name
from adapters_store.files import atomic_write
from adapters_store.names import check_id
from service.errors import KeyInvalid, ScopeDenied, StateError
from service.settings import Settings

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "sr"
SECRET_BYTES = 32
LOOK_EVERY_S = 0.5

_log = logging.getLogger("swaprec")


class Exposed(StateError):
    """An address that others reach, and nothing that keeps them out."""


class KeyNotFound(StateError):
    """A key that does not exist."""


@dataclass(frozen=True, slots=True)
class Key:
    """Who asks. A scope includes those before it; no domains means all."""

    id: str
    name: str
    scope: Scope
    domains: tuple[str, ...] = ()
    secret_sha256: str = ""
    created_at: str = ""

    def covers(self, domain: str) -> bool:
        """Whether the key may see a domain."""
        return not self.domains or domain in self.domains

    def includes(self, other: Key) -> bool:
        """Whether the key may do all that another one may."""
        inside = bool(other.domains) and set(other.domains) <= set(self.domains)
        large = SCOPES.index(self.scope) >= SCOPES.index(other.scope)
        return large and (not self.domains or inside)

    def check(self, scope: Scope, domain: str | None = None) -> None:
        """Let it pass, or not.

        Raises:
            ScopeDenied: the scope is too small, or the domain another.
        """
        if SCOPES.index(self.scope) < SCOPES.index(scope):
            raise ScopeDenied(
                f"this needs a key of scope {scope}; {self.name!r} has scope {self.scope}"
            )
        if domain is not None and not self.covers(domain):
            raise ScopeDenied(
                f"key {self.name!r} is for {', '.join(self.domains)}, not for {domain!r}"
            )


ANYONE = Key("", "anyone", "admin")
"""Who asks where no keys are needed."""

_FORM = TypeAdapter(list[Key])


class KeyFile:
    """The file of all keys; every change is one atomic replacement under a lock.

    A secret has 256 random bits, so that one round of SHA-256 keeps it as well as a slow hash
    would.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Key]:
        """Return all keys; no file means none.

        Raises:
            StateError: the file cannot be read or is damaged.
        """
        try:
            return _FORM.validate_json(self.path.read_bytes(), strict=False)
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as error:
            why = (
                error.strerror
                if isinstance(error, OSError)
                else "it is not as swaprec keys writes it"
            )
            raise StateError(
                f"key file {self.path} cannot be read: {why}; restore it, or remove it and add keys"
            ) from error

    def add(self, name: str, scope: Scope, domains: Sequence[str] = ()) -> tuple[Key, str]:
        """Add a key; returns it with its token, which is kept nowhere.

        Raises:
            InvalidId, InvalidName: its name or a domain's is none.
        """
        check_id(name, "a key's name")
        for domain in domains:
            check_domain_name(domain)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key = Key(secrets.token_hex(4), name, scope, tuple(domains), _digest(secret), now())
        with self._changing():
            self._write([*self.read(), key])
        return key, f"{PREFIX}_{key.id}_{secret}"

    def revoke(self, key_id: str) -> Key:
        """Remove a key.

        Raises:
            KeyNotFound.
        """
        with self._changing():
            keys = self.read()
            found = next((key for key in keys if key.id == key_id), None)
            if found is None:
                there = ", ".join(f"{key.id} ({key.name})" for key in keys) or "none"
                raise KeyNotFound(f"key {key_id!r} does not exist; there is {there}")
            self._write([key for key in keys if key is not found])
        return found

    def _write(self, keys: Sequence[Key]) -> None:
        atomic_write(
            self.path, json.dumps([asdict(key) for key in keys], indent=1).encode(), mode=0o600
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Keys:
    """Checks the keys of requests. Once a key was needed, one is needed until the process ends.

    Args:
        file: of the keys.
        required: whether a key is needed where the file has none.
        look_every_s: seconds between two looks whether the file changed.
    """

    def __init__(
        self, file: KeyFile, *, required: bool, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        self._file = file
        self._required = required
        self._look_every_s = look_every_s
        self._seen: tuple[int, ...] = ()
        self._looked = 0.0
        self._keys: dict[str, Key] = {}
        self._take(file.read())
        self._seen = self._stamp()

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return self._required

    def caller(self, authorization: str | None) -> Key:
        """Return who asks.

        Args:
            authorization: the header's value, `Bearer <token>`.

        Raises:
            KeyInvalid: a key is needed, and this is none.
        """
        self._follow()
        if not self._required:
            return ANYONE
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise KeyInvalid(
                "this service needs a key: send Authorization: Bearer <key>; swaprec keys add"
                " makes one"
            )
        prefix, _, rest = token.strip().partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        # An unknown id is compared, too: the time to answer does not tell which ids exist.
        matches = hmac.compare_digest(
            key.secret_sha256 if key is not None else _digest(""), _digest(secret)
        )
        if key is None or not matches or prefix != PREFIX:
            raise KeyInvalid("this key is not known here: it is misspelled, or it was revoked")
        return key

    def check_again(self, authorization: str | None, before: Key) -> None:
        """Check the key of something that takes long, while it goes on.

        Args:
            authorization: the header's value.
            before: the key as it was when this began.

        Raises:
            KeyInvalid: the key was revoked; ScopeDenied: it may do less now.
        """
        if not self.caller(authorization).includes(before):
            raise ScopeDenied(f"key {before.name!r} may do less than when this began: begin again")

    def _follow(self) -> None:
        """Read the file again when it changed; a damaged one changes nothing."""
        if time.monotonic() - self._looked < self._look_every_s:
            return
        self._looked = time.monotonic()
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        before = set(self._keys)
        try:
            self._take(self._file.read())
            self._log_change(before)
        except StateError:
            _log.exception("the keys that were read before go on being valid")

    def _log_change(self, before: set[str]) -> None:
        added = sorted(self._keys.keys() - before)
        removed = sorted(before - self._keys.keys())
        _log.info(
            "keys: %d are valid; added: %s; removed: %s",
            len(self._keys),
            added or "none",
            removed or "none",
        )

    def _take(self, keys: Sequence[Key]) -> None:
        self._keys = {key.id: key for key in keys}
        self._required = self._required or bool(keys)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._file.path.stat()
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size


def key_path(settings: Settings) -> Path:
    """Return where the keys of a service lie."""
    return settings.keys or settings.data / "keys.json"


def open_keys(settings: Settings) -> Keys:
    """Read the keys of a service that is about to start.

    Raises:
        Exposed: others reach the address, there is no key, and nobody said that this is meant;
            StateError.
    """
    keys = Keys(KeyFile(key_path(settings)), required=False)
    if not keys.required and not settings.insecure and not _is_loopback(settings.host):
        raise Exposed(
            f"host {settings.host} is reachable from outside and there are no keys: make one with"
            " swaprec keys add, listen on 127.0.0.1, or set SWAPREC_INSECURE=1 if a proxy or"
            " firewall protects it"
        )
    return keys


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
