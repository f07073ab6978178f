"""Settings: read once from the environment (`SWAPREC_…`), then frozen.

Documented in docs/configuration.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adapters_store.quoting import quote
from service.wire.validation import plain_errors

MIB = 1024 * 1024
PREFIX = "SWAPREC_"
CLIENT_VARIABLES = (
    "SWAPREC_URL",
    "SWAPREC_KEY",
    "SWAPREC_DEMO_URL",
    "SWAPREC_DEBUG",
    "SWAPREC_GPU_FAST",
    "SWAPREC_SEED",
    "SWAPREC_WHEELS",
)
"""Variables that others than the service read: the command line, the client, the encoders."""

_DEVICE = re.compile("auto|cpu|cuda(:[0-9]+)?")
_ROOT_PATH = re.compile("(/[A-Za-z0-9._~-]+)*")
_SERVICE_LINK = re.compile(r"SWAPREC_(.+_)?(SERVICE_(HOST|PORT)|PORT_[0-9]+_(TCP|UDP|SCTP))(_.*)?")
_LINKED = re.compile("(tcp|udp|sctp)://")


class InvalidSettings(Exception):
    """Settings that cannot be used; each is named with its variable,
    its value and what was expected.
    """


class Settings(BaseSettings):
    """All that can be set. Each field's description is its row in docs/configuration.md."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,  # a compose file passes an unset variable on as an empty one
        frozen=True,
        extra="forbid",
        validate_by_name=True,
    )

    data: Path = Field(
        Path(".swaprec"), description="Data folder: state, adapter store, vectors, backbones."
    )
    backbones: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description=(
            "Backbone folders, separated by `:`. Empty: every folder in `<data>/backbones`."
        ),
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",  # the name that hosting sets
        description="Redis 7.0 or later to keep state in. Empty: SQLite in the data folder.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field(
        "",
        description=(
            "Path under which a proxy serves the API, such as `/recs`, for `Location` headers and"
            " `/docs`."
        ),
    )
    insecure: bool = Field(
        default=False,
        description=(
            "Allow an address other than loopback without keys: anyone who reaches it may write."
        ),
    )
    keys: Path | None = Field(
        None,
        description=(
            "File of the keys, as `swaprec keys` writes it. Empty: `keys.json` in the data folder."
        ),
    )
    device: str = Field("auto", description="`auto`, `cpu` or a CUDA device.")
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes that share the port, the state and the mapped vectors.",
    )
    threads: int = Field(
        1, ge=1, description="Torch threads of one operation. One is best for small models."
    )
    max_body_bytes: int = Field(MIB, ge=1024, description="Largest JSON body.")
    max_bundle_bytes: int = Field(512 * MIB, ge=1024, description="Largest bundle.")
    max_adapter_bytes: int = Field(
        256 * MIB,
        ge=1024,
        description="Largest adapter of an upload: bytes of its weights in memory, as float32.",
    )
    max_user_adapter_bytes: int = Field(
        4 * MIB,
        ge=1024,
        description=(
            "Largest user side of an adapter, or the user encoder's size if that is larger: "
            "it runs in the batch of every domain."
        ),
    )
    max_import_bytes: int = Field(4096 * MIB, ge=1024, description="Largest import of items.")
    max_bodies_bytes: int = Field(
        256 * MIB,
        ge=MIB,
        description=(
            "Bodies that each process keeps in memory, all requests together; more are 503."
        ),
    )
    max_spool_bytes: int = Field(
        16_384 * MIB,
        ge=MIB,
        description="Imports that wait on the disk, all together; more are 503.",
    )
    max_image_pixels: int = Field(
        50_000_000,
        ge=1,
        le=50_000_000,
        description="Largest picture in pixels; a larger one is refused.",
    )
    max_connections: int = Field(
        4096, ge=1, description="Connections that each process keeps; more are 503."
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, description="Largest address and headers of a request."
    )
    header_timeout_s: float = Field(
        10.0, gt=0, description="Seconds in which the headers of a request must come."
    )
    body_timeout_s: float = Field(
        30.0,
        gt=0,
        description=(
            "Seconds in which a body must go on, by 240 bytes a second, and an answer be read."
        ),
    )
    keep_alive_s: int = Field(
        5, ge=1, description="Seconds that a connection is kept between two requests."
    )
    import_job_bytes: int = Field(
        MIB, ge=0, description="An import of items larger than this becomes a job."
    )
    builder_items: int = Field(
        2000,
        ge=0,
        description="So many items are embedded in a process of their own, niced; 0: none are.",
    )
    index_items: int = Field(
        20_000,
        ge=0,
        description=(
            "Catalogs of so many items get an approximate index, tuned when built; 0: none does."
        ),
    )
    memory_bytes: int = Field(
        0,
        ge=0,
        description=(
            "Vectors, indexes and ids that each process keeps in memory; idle domains are evicted."
            " 0: all."
        ),
    )
    max_queue: int = Field(
        1024, ge=1, description="Recommendations in progress at once; more are answered 429."
    )
    max_wait_ms: int = Field(
        500,
        ge=1,
        description="Recommendations that would queue longer, in milliseconds, are answered 429.",
    )
    slots: int = Field(
        64, ge=2, description="Adapters the user encoder's table begins with; it grows by doubling."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )

    @field_validator("backbones", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(Path(part) for part in value.split(os.pathsep) if part)
            if isinstance(value, str)
            else value
        )

    @field_validator("redis_url", mode="before")
    @classmethod
    def _set_or_not(cls, value: object) -> object:
        return value or None

    @field_validator("log_level", mode="before")
    @classmethod
    def _lowered(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError(
                f"{quote(value)} is no device: expected auto, cpu, cuda or for example cuda:0"
            )
        return value

    @field_validator("root_path")
    @classmethod
    def _as_prefix(cls, value: str) -> str:
        path = value.rstrip("/")
        if not _ROOT_PATH.fullmatch(path):
            raise ValueError(f"{quote(value)} is no path: expected for example /recs")
        return path

    @field_validator("host")
    @classmethod
    def _unbracketed(cls, value: str) -> str:
        return value.removeprefix("[").removesuffix("]") if value.startswith("[") else value

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Name the variables of what cannot be used.

        Raises:
            InvalidSettings.
        """
        try:
            return handler(values)
        except ValidationError as error:
            found = error.errors(include_url=False)
            named = [
                {**one, "loc": (variable(str(one["loc"][0])), *one["loc"][1:])}
                for one in found
                if one["loc"]
            ]
            messages = [
                one["msg"] + _hint(one["loc"][0]) for one in plain_errors(named or found, None)
            ]
            raise InvalidSettings("; ".join(messages)) from None


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    field = Settings.model_fields.get(name)
    alias = field.validation_alias if field is not None else None
    return alias if isinstance(alias, str) else name if name.isupper() else PREFIX + name.upper()


def _hint(name: str) -> str:
    if not _LINKED.match(os.environ.get(name, "")):
        return ""
    return (
        "; Kubernetes sets it for a Service of that name: set enableServiceLinks: false in the"
        f" pod's spec, or {name} itself"
    )


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that looks like a setting and is none, with the nearest
    that is one.

    What Kubernetes sets for Services whose names begin with swaprec is left alone.
    """
    known = {*map(variable, Settings.model_fields), *CLIENT_VARIABLES}
    found = []
    for name, value in sorted(environment.items()):
        is_ours = name.startswith(PREFIX) and name not in known and value
        if not is_ours or _SERVICE_LINK.fullmatch(name) or _LINKED.match(value):
            continue
        near = get_close_matches(
            name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], 1
        )
        hint = (
            f"did you mean {PREFIX}{near[0]}?"
            if near
            else "docs/configuration.md lists every setting"
        )
        found.append(f"{name}={quote(value)} is no setting and has no effect: {hint}")
    return found
