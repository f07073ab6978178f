"""State: what must survive the process and, with a shared backend, what processes share.

Records in `records`, what can be done with them in `protocols`. Two backends do it: `sqlite`, in
the data folder, and `redis`.
"""

from service.state.protocols import (
    CatalogJobs,
    Catalogs,
    DomainFeed,
    Domains,
    Feed,
    Items,
    JobQueue,
    Probes,
    State,
)
from service.state.records import (
    ENDED,
    MAX_CHANGES,
    RETAINED_JOBS,
    ChangedItem,
    Changes,
    Deleted,
    DomainRecord,
    EntryKind,
    FeedEntry,
    JobRecord,
    Probe,
    Removals,
    StoredItem,
    Upserted,
    Visibility,
    probes_text,
    read_probes,
)

__all__ = [
    "ENDED",
    "MAX_CHANGES",
    "RETAINED_JOBS",
    "CatalogJobs",
    "Catalogs",
    "ChangedItem",
    "Changes",
    "Deleted",
    "DomainFeed",
    "DomainRecord",
    "Domains",
    "EntryKind",
    "Feed",
    "FeedEntry",
    "Items",
    "JobQueue",
    "JobRecord",
    "Probe",
    "Probes",
    "Removals",
    "State",
    "StoredItem",
    "Upserted",
    "Visibility",
    "probes_text",
    "read_probes",
]
