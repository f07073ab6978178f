"""What is installed is what is declared: pins for all of it, and no import in the tests that nobody
declared.

deptry asks the same of the packages, in `make lint`; tests may import what only development needs.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LINES = (*PROJECT["dependencies"], *EXTRAS["serve"], *EXTRAS["train"], *EXTRAS["dev"])
DECLARED = [one for one in map(Requirement, LINES) if one.name != PROJECT["name"]]
OURS = {
    "transrec",
    "adapters_store",
    "service",
    "training",
    "swaprec",
    "benchmarks",
    "tools",
    "tests",
}
PIN = re.compile(r"^([a-z0-9-]+==[^ \n]+( ; [^\\\n]+?)?)(?: \\)?$", re.MULTILINE)
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
PINS = [pin[0] for pin in PIN.findall(LOCK)]


def imported(path: Path) -> set[str]:
    """First names of what a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_constraints_are_the_lock_without_digests() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == PINS, "run `make lock`"


def test_every_archive_of_the_lock_has_a_digest_and_the_lock_names_no_index() -> None:
    blocks = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(blocks) == len(PINS)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert not re.search(r"://|--(extra-)?index-url|--find-links", LOCK)


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_what_is_declared_is_locked_in_a_version_that_fits(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    [pin] = [pin for pin in map(Requirement, PINS) if canonicalize_name(pin.name) == name]
    [version] = [one.version for one in pin.specifier]
    assert requirement.specifier.contains(version), "run `make lock`"


def test_what_tests_benchmarks_and_tools_import_is_declared() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    owners = packages_distributions()
    known = OURS | sys.stdlib_module_names
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("tests", "benchmarks", "tools")
        for path in (ROOT / folder).rglob("*.py")
        for name in imported(path) - known
        if not declared & {canonicalize_name(owner) for owner in owners.get(name, ())}
    }
    assert not undeclared
