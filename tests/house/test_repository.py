"""The files that a forge and pre-commit read: they parse, and what they run exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [
    path
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    if path.stem != "config"
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
WIDGETS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def parsed(path: Path) -> dict[Any, Any]:
    value: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return value


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_only_ends_by_itself_and_runs_what_exists(path: Path) -> None:
    workflow = parsed(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow[True].keys() <= {"push", "pull_request"}, "YAML reads the key `on` as true"
    assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "actions/checkout@v4"))
        assert set(re.findall(r"\bmake ([a-z]+)", step.get("run", ""))) <= TARGETS


def test_the_ci_runs_what_a_contributor_runs_on_the_oldest_python() -> None:
    workflow = parsed(ROOT / ".github" / "workflows" / "ci.yml")
    runs = " ".join(step.get("run", "") for step in steps(workflow))
    assert [word for word in runs.split() if word != "make"] == ["install", "lint", "test"]
    [python] = [step["with"] for step in steps(workflow) if "setup-python" in step.get("uses", "")]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "requires-python"
    ]
    assert f">={python['python-version']}" == oldest
    assert (ROOT / python["cache-dependency-path"]).is_file()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_asks_for_something(path: Path) -> None:
    form = parsed(path)
    assert {"name", "description", "body"} <= form.keys()
    assert {part["type"] for part in form["body"]} <= WIDGETS
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    names = [part["id"] for part in asked]
    assert len(set(names)) == len(names)
    assert all(part["attributes"]["label"] for part in asked)
    assert any(part.get("validations", {}).get("required") for part in asked)


def test_there_are_forms_and_workflows() -> None:
    assert [path.stem for path in FORMS] == ["bug", "feature"]
    assert [path.stem for path in WORKFLOWS] == ["ci", "container"]


def test_hooks_are_local_and_run_the_tools_of_make_lint() -> None:
    [repository] = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = {hook["id"]: hook["entry"] for hook in repository["hooks"]}
    linted = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    for command in re.findall(r"\$\(BIN\)/(.+)", linted):
        tool = command.removesuffix(" .")
        assert any(
            entry.removeprefix(".venv/bin/").startswith(tool) for entry in entries.values()
        ), tool
    named = [
        word for entry in entries.values() for word in entry.split() if word.startswith("tests/")
    ]
    assert named
    assert all((ROOT / name).is_file() for name in named)
