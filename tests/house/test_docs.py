"""What the documents promise is there: commands, routes, settings, links."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from service.app import create_app
from service.settings import Settings
from swaprec.cli import app
from swaprec.reference import pages
from training.config import BackboneSource, DataConfig, RunConfig, TrainConfig
from transrec.adapters import KINDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def routes() -> set[tuple[str, str]]:
    paths = create_app(Settings()).openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def code(path: Path) -> list[str]:
    """Lines of a document's fenced blocks, and its inline code."""
    content = path.read_text("utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", content, re.MULTILINE | re.DOTALL)
    inline = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```\w*\n.*?^```", "", content, flags=re.MULTILINE | re.DOTALL)
    )
    return [line.strip() for block in fenced for line in block.splitlines()] + inline


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_a_document_exists_with_its_options(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    for line in code(path):
        if found := re.match(r"(?:SWAPREC\S+ |\.venv/bin/)*swaprec ([a-z][a-z-]*)([^#]*)", line):
            name, rest = found.groups()
            assert name in COMMANDS, f"{path.name}: {line}"
            command = COMMANDS[name]
            inner = re.match(r" ([a-z]+)", rest)
            if hasattr(command, "commands") and inner is not None:
                assert inner[1] in command.commands, f"{path.name}: {line}"
                command = command.commands[inner[1]]
            known = {
                option
                for parameter in command.params
                for option in [*parameter.opts, *parameter.secondary_opts]
            }
            known |= {"--help", "--install-completion"}
            assert set(re.findall(r"(?<= )--[a-z-]+", rest)) <= known, f"{path.name}: {line}"
        if found := re.match(r"make ((?:[a-z]+ ?)+)", line):
            assert set(found[1].split()) <= targets, f"{path.name}: {line}"


@pytest.mark.parametrize("name", ["cli.md", "http-reference.md"])
def test_the_reference_pages_are_what_the_program_says(name: str) -> None:
    assert text(f"docs/{name}") == pages()[name].rstrip() + "\n", "make docs writes them"


def test_every_reference_of_the_openapi_document_leads_somewhere() -> None:
    document = create_app(Settings()).openapi()
    places = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert places
    for place in places:
        found = document
        for part in place.split("/"):
            assert part in found, place
            found = found[part]


def test_the_readme_names_both_commands() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"make [a-z]+", text("README.md")))


@pytest.mark.parametrize("name", ["README.md", "docs/http.md", "docs/getting-started.md"])
def test_every_request_of_a_document_has_a_route(name: str) -> None:
    patterns = [re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path) + "$") for _, path in routes()]
    for path in re.findall(r"http://127\.0\.0\.1:8000(/[\w/.-]*)", text(name)):
        assert path in ("/docs", "/openapi.json") or any(
            pattern.match(path) for pattern in patterns
        ), f"{name}: {path}"


def test_the_api_document_lists_exactly_the_routes() -> None:
    named = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?]*)\??[^`]*`", text("docs/http.md"))
    assert {(method, path) for method, path in named} == {
        (method, re.sub(r":path\}", "}", path)) for method, path in routes()
    }


def test_the_table_of_settings_is_the_class() -> None:
    rows = dict(
        re.findall(
            r"^\| `([A-Z_]+)` \| [^|]+ \| (.+) \|$", text("docs/configuration.md"), re.MULTILINE
        )
    )
    assert rows == {
        str(field.validation_alias or f"SWAPREC_{name.upper()}"): field.description
        for name, field in Settings.model_fields.items()
    }


def test_the_table_of_a_run_file_names_every_key() -> None:
    table = text("docs/training.md")
    for section, model in (
        ("", RunConfig),
        ("data", DataConfig),
        ("backbone", BackboneSource),
        ("train", TrainConfig),
    ):
        for key in model.model_fields.keys() - {"data", "backbone", "train", "adapter"}:
            assert f"`{section}.{key}`" in table or f"`.{key}`" in table or f"`{key}`" in table, (
                f"{section}.{key}"
            )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_decision_is_numbered_once() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs/adr").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_every_kind_of_adapter_and_what_it_reads_is_in_the_documents() -> None:
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    shared = {"train_layer_norm", "compat"}
    for name, kind in KINDS.items():
        if name == "none":
            continue
        like = rows["houlsby"] if "as houlsby" in rows[name] else ""
        missing = {key for key in kind.keys if f"`{key}`" not in rows[name] + like} - shared
        assert not missing, (name, missing)


def test_the_architecture_names_files_and_functions_that_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)(?:: (\w+)(?:\.(\w+))?)?`", text("docs/architecture.md"))
    assert len(named) > 30
    for path, *names in named:
        file = next(
            (file for file in (ROOT / "service" / path, ROOT / path) if file.is_file()), None
        )
        assert file is not None, path
        source = file.read_text("utf-8")
        for name in filter(None, names):
            assert re.search(rf"\b(def|class) {name}\b|^{name}\b", source, re.MULTILINE), (
                f"{path}: {name}"
            )
