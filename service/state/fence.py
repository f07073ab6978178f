"""A fence: what is written for a domain is not written for a later one of its name."""

from __future__ import annotations

from collections.abc import Callable

from service.errors import DomainNotFound
from service.state import DomainRecord, Domains


def fence(state: Domains, record: DomainRecord) -> Callable[[], None]:
    """Return what raises where a domain is gone, or is another one of its name now.

    The store calls it under the domain's lock, which a removal holds until state has forgotten the
    domain.
    """

    def check() -> None:
        if state.get_domain(record.name).incarnation != record.incarnation:
            raise DomainNotFound(
                record.name, [one.name for one in state.domains() if one.name != record.name]
            )

    return check
