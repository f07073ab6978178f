"""Options that many commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from swaprec.client import Client, check_url
from swaprec.client.wire import LOCAL
from swaprec.errors import USAGE, ProblemError, Stop, Unreachable
from training.names import FORMS, packaged

COMPLETION_S = 1.0


def address(url: str | None) -> str | None:
    """Check an address that was given."""
    try:
        return check_url(url) if url is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def complete_domain(incomplete: str) -> list[str]:
    """Offer the domains of the service at `SWAPREC_URL`, none where it does not answer at once."""
    try:
        with Client(timeout=COMPLETION_S) as client:
            return [
                one["domain"] for one in client.domains() if one["domain"].startswith(incomplete)
            ]
    except (ProblemError, Unreachable, ValueError):
        return []


def complete_version(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the versions of the domain that stands before."""
    try:
        with Client(timeout=COMPLETION_S) as client:
            versions = [
                "none",
                *(str(one["version"]) for one in client.versions(context.params.get("domain"))),
            ]
            return [one for one in versions if one.startswith(incomplete)]
    except (ProblemError, Unreachable, ValueError):
        return []


def complete_form(incomplete: str) -> list[str]:
    """Offer the forms of logs."""
    return [form for form in FORMS if form.startswith(incomplete)]


def complete_experiment(incomplete: str) -> list[str]:
    """Offer the packaged experiments, and TOML files and folders of that beginning."""
    start = Path(incomplete)
    folder = start if incomplete.endswith("/") else start.parent
    beginning = "" if incomplete.endswith("/") else start.name
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    paths = [
        f"{path}/" if path.is_dir() else str(path)
        for path in found
        if path.name.startswith(beginning)
        and path.name[0] != "."
        and (path.is_dir() or path.suffix == ".toml")
    ]
    return [*(name for name in packaged() if name.startswith(incomplete)), *paths]


Url = Annotated[
    str, typer.Option(envvar="SWAPREC_URL", help="Address of the service.", callback=address)
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key",
        envvar="SWAPREC_KEY",
        help="Token of a key, where the service needs one.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DomainArgument = Annotated[
    str, typer.Argument(help="Which domain.", autocompletion=complete_domain)
]
HistoryArgument = Annotated[list[str] | None, typer.Argument(help="Item ids, oldest first.")]


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How a command reaches a service, and in what form it answers: `--url`, `--key`, `--json`."""

    url: str
    key: str
    as_json: bool

    def client(self) -> Client:
        """Open a connection to the service."""
        return Client(self.url, self.key)


def _service_options(*, url: Url = LOCAL, key: KeyOption = "", as_json: AsJson = False) -> None: ...


def with_service_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command be called with `--url`, `--key` and `--json` for its parameter of the type
    `ServiceOptions`.

    Typer makes options of a command's signature: there it finds these three instead of the one.
    """

    @wraps(command)
    def called(*given: Any, url: str, key: str, as_json: bool, **options: Any) -> None:
        command(*given, service=ServiceOptions(url, key, as_json), **options)

    signature = inspect.signature(command, eval_str=True)
    three = inspect.signature(_service_options, eval_str=True).parameters.values()
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += three if parameter.annotation is ServiceOptions else [parameter]
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return called


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost.

    Raises:
        Stop: the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort as error:
        raise Stop(
            f"{question} Nobody answered: nothing was done", "--yes answers", USAGE
        ) from error
    if not agreed:
        raise Stop("nothing was done")
