"""Keys of a service, in its data folder: a running service follows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.access.keys import SCOPES, KeyFile, Scope, key_path
from service.settings import Settings
from swaprec import show
from swaprec.cli.options import AsJson

app = typer.Typer(help="Keys of the service that is here: add, list, revoke.", no_args_is_help=True)
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder; SWAPREC_DATA if not given.")
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Who will use it; a note for you.")],
    scope: Annotated[
        Scope, typer.Option(help="What it may do; each includes those before it.")
    ] = "read",
    domain: Annotated[
        list[str] | None, typer.Option(help="Only for this domain; may be repeated.")
    ] = None,
    data: DataOption = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its token, which is shown this once and kept nowhere."""
    key, token = _file(data).add(name, scope, domain or ())
    if as_json:
        show.emit_json(
            {
                "id": key.id,
                "name": name,
                "scope": scope,
                "domains": list(key.domains),
                "token": token,
            }
        )
        return
    typer.echo(token)
    where = ", ".join(key.domains) or "all domains"
    show.talk().print(
        f"key {key.id}: {scope} for {where}. From the first key on every request needs one."
    )


@app.command("list")
def list_keys(data: DataOption = None, as_json: AsJson = False) -> None:
    """List keys, without their tokens."""
    keys = sorted(_file(data).read(), key=lambda key: (SCOPES.index(key.scope), key.name))
    if as_json:
        shown = ("id", "name", "scope", "domains", "created_at")
        show.emit_json([{name: getattr(key, name) for name in shown} for key in keys])
        return
    rows = [
        (key.id, key.name, key.scope, ", ".join(key.domains) or "all", key.created_at[:10])
        for key in keys
    ]
    show.data().print(show.table("", ("id", "name", "scope", "domains", "created"), rows))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as listed.")],
    data: DataOption = None,
    as_json: AsJson = False,
) -> None:
    """Remove a key; within a second nobody gets in with it."""
    key = _file(data).revoke(key_id)
    if as_json:
        show.emit_json({"revoked": key.id, "name": key.name})
    else:
        typer.echo(f"{key.id} ({key.name})")


def _file(data: Path | None) -> KeyFile:
    return KeyFile(key_path(Settings() if data is None else Settings(data=data)))
