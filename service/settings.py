"""Settings: read once from the environment (`SWAPREC_…`), then frozen. Documented in docs/configuration.md."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 1024 * 1024


class Settings(BaseSettings):
    """All that can be set. Each field's description is its row in docs/configuration.md."""

    model_config = SettingsConfigDict(env_prefix="SWAPREC_", frozen=True, extra="forbid", validate_by_name=True)

    data: Path = Field(Path(".swaprec"), description="Data folder: state, adapter store, vectors, backbones.")
    backbones: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Backbone folders, separated by `:`. Empty: every folder in `<data>/backbones`."
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",  # the name that hosting sets
        description="Redis 7.0 or later to keep state in. Empty: SQLite in the data folder.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    insecure: bool = Field(
        default=False,
        description="Allow an address other than loopback without keys: anyone who reaches it may write.",
    )
    keys: Path | None = Field(
        None, description="File of the keys, as `swaprec keys` writes it. Empty: `keys.json` in the data folder."
    )
    device: str = Field("auto", description="`auto`, `cpu` or a CUDA device.")
    workers: int = Field(
        1, ge=1, le=256, description="Processes that share the port, the state and the mapped vectors."
    )
    threads: int = Field(1, ge=1, description="Torch threads of one operation. One is best for small models.")
    max_body_bytes: int = Field(MIB, ge=1024, description="Largest JSON body.")
    max_bundle_bytes: int = Field(512 * MIB, ge=1024, description="Largest bundle.")
    max_import_bytes: int = Field(4096 * MIB, ge=1024, description="Largest import of items.")
    import_job_bytes: int = Field(MIB, ge=0, description="An import of items larger than this becomes a job.")
    builder_items: int = Field(
        2000, ge=0, description="So many items are embedded in a process of their own, niced; 0: none are."
    )
    index_items: int = Field(
        20_000, ge=0, description="Catalogs of so many items get an approximate index, tuned when built; 0: none does."
    )
    memory_bytes: int = Field(
        0,
        ge=0,
        description="Vectors, indexes and ids that each process keeps in memory; domains nobody asks for rest. 0: all.",
    )
    max_queue: int = Field(1024, ge=1, description="Recommendations in progress at once; more are answered 429.")
    max_wait_ms: int = Field(
        500,
        ge=1,
        description="Recommendations that would queue longer, in milliseconds, are answered 429.",
    )
    slots: int = Field(64, ge=2, description="Adapters the user encoder's table begins with; it grows by doubling.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("backbones", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(Path(part) for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("redis_url", mode="before")
    @classmethod
    def _set_or_not(cls, value: object) -> object:
        return value or None  # a compose file passes an unset variable on as an empty one
