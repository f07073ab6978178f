"""Writes the reference pages from the program itself: `python -m swaprec.reference`.

A test compares them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.testing import CliRunner

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = "80"
CLI_HEAD = """# The command line

Made from the program by `make docs`. Data goes to stdout, talk to stderr; `--json` prints one
document.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no service answers, 4 the service refused, 5 some
rows were rejected and the others stored, 6 an extra is not installed, 130 interrupted.

`swaprec --install-completion` completes commands, domains and versions in your shell.
"""
HTTP_HEAD = """# HTTP reference

Made from the OpenAPI document by `make docs`; [http.md](http.md) tells it by example. Every error
is `application/problem+json` (`ProblemBody` below).
"""


def pages() -> dict[str, str]:
    """Return each generated page by its name in `docs/`."""
    return {"cli.md": cli_page(), "http-reference.md": http_page()}


def cli_page() -> str:
    """Return every command with its help."""
    from swaprec.cli import app

    os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = WIDTH
    blocks = [CLI_HEAD]
    for words in _commands(typer.main.get_command(app), ()):
        shown = CliRunner().invoke(app, [*words, "--help"], prog_name="swaprec").output.strip()
        blocks.append(
            f"## swaprec {' '.join(words)}\n\n```text\n{shown}\n```\n"
            if words
            else f"```text\n{shown}\n```\n"
        )
    return "\n".join(blocks)


def _commands(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))


def http_page() -> str:
    """Return every route of the OpenAPI document, and every schema that answers are made of."""
    from service.app import create_app
    from service.settings import Settings

    document = create_app(Settings()).openapi()
    blocks = [HTTP_HEAD]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            blocks.append(_operation(method.upper(), path, operation))
    blocks.append("# Schemas\n")
    blocks += [
        _schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return "\n".join(blocks)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = f"Scope `{operation['x-scope']}`." if "x-scope" in operation else "No key."
    lines = [
        f"## {method} {path}\n",
        f"**{operation['summary']}.** {_flat(operation.get('description', ''))} {scope}\n",
    ]
    if operation.get("parameters"):
        lines += ["| parameter | in | type | |", "|---|---|---|---|"]
        lines += [_parameter(one) for one in operation["parameters"]]
        lines.append("")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"Body `{kind}`: {_type(content.get('schema', {}))}\n")
        lines += _fields(content.get("schema", {}))
    lines += ["| status | |", "|---|---|"]
    lines += [
        f"| {status} | {_answer(one)} |" for status, one in sorted(operation["responses"].items())
    ]
    return "\n".join(lines) + "\n"


def _parameter(one: dict[str, Any]) -> str:
    schema = one["schema"]
    blocks = one.get("description", "")
    if schema.get("default") is not None:
        blocks = f"{blocks} Default `{json.dumps(schema['default'])}`.".strip()
    return (
        f"| `{one['name']}`{'' if one.get('required') else ' (optional)'} | {one['in']} |"
        f" {_type(schema)} | {blocks} |"
    )


def _answer(one: dict[str, Any]) -> str:
    schemas = [
        content["schema"]
        for kind, content in one.get("content", {}).items()
        if content.get("schema") and "problem" not in kind
    ]
    blocks = one["description"].removesuffix(".")
    return f"{blocks}: {', '.join(map(_type, schemas))}" if schemas else blocks


def _fields(schema: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{name}`{'' if name in schema.get('required', []) else ' (optional)'} | {_type(one)} |"
        f" {_describe(one)} |"
        for name, one in schema.get("properties", {}).items()
    ]
    return ["| field | type | |", "|---|---|---|", *rows, ""] if rows else []


def _describe(schema: dict[str, Any]) -> str:
    blocks: str = schema.get("description", "")
    default = schema.get("default")
    return (
        f"{blocks} Default `{json.dumps(default)}`.".strip()
        if default not in (None, [], {})
        else blocks
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    return "\n".join(
        [f"## {_named(name)}\n", f"{_flat(schema.get('description', ''))}\n", *_fields(schema)]
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{_named(schema['$ref'].rpartition('/')[2])}`"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    for joined in ("anyOf", "oneOf", "allOf"):
        if joined in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[joined])))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return f"{schema.get('type', 'any')}{_limits(schema)}"


def _limits(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("minLength"))
    high = schema.get("maximum", schema.get("maxLength"))
    return (
        f" {'' if low is None else low}..{'' if high is None else high}"
        if (low, high) != (None, None)
        else ""
    )


def _named(name: str) -> str:
    return name.replace("_", " ").strip().replace("Page ", "Page of ")


def _flat(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text.rstrip() + "\n", "utf-8")
        sys.stderr.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
