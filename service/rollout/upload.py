"""A bundle that was received becomes a version: checked against the domain's backbone, kept, and
activated if that is wanted.

The bytes are hashed while they come in, and the values of the tensors are read once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from adapters_store.bundle import Bundle, open_bundle
from adapters_store.errors import BundleError, BundleProblem
from adapters_store.quoting import quote
from adapters_store.store import Added, Store
from adapters_store.upload import Upload
from service.embedding.versions import Versions
from service.errors import InvalidRequest
from service.jobs import Jobs
from service.rollout.activation import Activator
from service.rollout.domain_creator import DomainCreator
from service.state import DomainRecord, Domains, JobRecord
from service.state.fence import fence
from service.wire.requests import ActivateRequest, DomainBody, GateBody

Authorize = Callable[[Literal["write", "admin"], str], None]
"""Called with a scope and a domain; raises ScopeDenied where the client's key lacks it."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What a client asks of an upload.

    `domain` must agree with the manifest, if given; `create` makes the domain if it does not exist;
    `activate` makes the version live, as a job, behind `gate`.
    """

    domain: str | None = None
    create: bool = False
    activate: bool = False
    gate: GateBody | None = None


class Uploader:
    """Accepts bundles; all of it waits for the disk, so never on the event loop."""

    def __init__(
        self,
        state: Domains,
        store: Store,
        versions: Versions,
        creator: DomainCreator,
        activator: Activator,
        jobs: Jobs,
    ) -> None:
        self._state = state
        self._store = store
        self._versions = versions
        self._creator = creator
        self._activator = activator
        self._jobs = jobs

    def add(self, received: Upload, options: UploadOptions, authorize: Authorize) -> Added:
        """Check a bundle that came in whole, and keep it as its domain's next version.

        Raises:
            UnsupportedFormat; BundleError: with every problem; InvalidRequest: it is of another
                domain; ScopeDenied; DomainNotFound; TooManyAtOnce: a job that activates it would
                be refused; OutOfSpace. No version was kept; a domain that was created stays.
        """
        sealed = received.seal()
        bundle = open_bundle(sealed.path, sealed.digest)
        name = bundle.manifest.domain if options.domain is None else options.domain
        authorize("write", name)
        checked_on: str | None = None
        if options.create and not self._creator.exists(name):
            authorize("admin", name)
            checked_on = self._create(name, bundle)
        record = self._state.get_domain(name)
        if options.activate:  # a bundle is not kept where the job that makes it live is refused
            self._jobs.check_room(name)
        check = _accept if record.backbone == checked_on else self._versions.check_upload(record)
        return self._store.add(name, sealed, check, fence(self._state, record))

    def activate(self, added: Added, options: UploadOptions) -> JobRecord | None:
        """Have a version activated, if that was asked for. It is kept where this is refused.

        The upload's file and its place are given back before: a flip may wait for its domain.

        Raises:
            TooManyAtOnce; what `Activator.submit` raises.
        """
        if not options.activate:
            return None
        wanted = ActivateRequest(gate=options.gate)
        return self._activator.submit(added.card.domain, added.version, wanted)

    def _create(self, name: str, bundle: Bundle) -> str:
        """Create the domain of a bundle that will be accepted, and return its backbone; for one
        that will not, nothing is created.
        """
        manifest = bundle.manifest
        if name != manifest.domain:
            raise InvalidRequest(
                f"the manifest names domain {manifest.domain!r}, the upload {quote(name)}: nothing"
                " was created",
                [{"loc": ["body", "domain"], "msg": f"the manifest has {manifest.domain!r}"}],
            )
        record: DomainRecord = self._creator.draft(name, manifest.backbone)
        problems = self._versions.check_upload(record)(bundle)
        if problems:
            raise BundleError(problems)
        self._creator.put(name, DomainBody(backbone=manifest.backbone))
        return record.backbone


def _accept(_: Bundle) -> list[BundleProblem]:
    """Accept a bundle whose tensors were checked already."""
    return []
