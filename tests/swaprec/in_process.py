"""The command line within this process:
a start of Python and torch takes seconds, the commands themselves none.
"""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from swaprec.cli import app


def invoke(*arguments: str | Path, **environment: str) -> Result:
    """Run a command; an empty COLUMNS is a pipe without a width."""
    environment = {"COLUMNS": "", **environment}
    return CliRunner().invoke(app, [*map(str, arguments)], env=environment)
