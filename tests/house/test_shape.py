"""Files, classes and constructors stay small enough to be read in one go."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "service",
    "adapters_store",
    "transrec",
    "training",
    "swaprec",
    "benchmarks",
    "tests",
)
MAX_LINES = 350
MAX_PARAMETERS = 8
"""Of a constructor, `self` not counted."""
MAX_PUBLIC_METHODS = 15

MANY_METHODS = {
    "LiveTable": "one lock guards all that it holds: what is split off would be out of step",
    "RedisState": "all of State: what its methods do is in modules of their own",
    "SqliteState": "all of State: what its methods do is in modules of their own",
}
"""Classes with more public methods than others, and why."""


def python_files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def count_lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


@cache
def classes_of(path: Path) -> list[ast.ClassDef]:
    """Return the classes of a file, which is parsed once for all tests."""
    return classes_in(path.read_text("utf-8"))


def classes_in(source: str) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def public_methods(node: ast.ClassDef) -> set[str]:
    """Names of methods and properties that others may use; a setter is its property."""
    methods = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return {one.name for one in methods if not one.name.startswith("_")}


def constructors(classes: Iterable[ast.ClassDef]) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield each constructor that is written out, with the name of its class."""
    for node in classes:
        for one in node.body:
            if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                yield node.name, one


def count_parameters(function: ast.FunctionDef) -> int:
    given = function.args
    return len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1


def parallel_assignments(function: ast.FunctionDef) -> list[int]:
    """Lines that assign several values to several targets: `self.a, self.b = a, b`."""
    return [
        node.lineno
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and any(isinstance(target, ast.Tuple) for target in node.targets)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_longer_than_it_may_be(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"there is no folder {folder}"
    long = {
        f"{name_of(path)}: {count_lines(path)} lines, at most {MAX_LINES}: split it"
        for path in files
        if count_lines(path) > MAX_LINES
    }
    assert not long


def test_no_constructor_takes_more_than_a_reader_can_hold() -> None:
    large = {
        f"{name_of(path)}: {name} takes {count_parameters(constructor)}, at most {MAX_PARAMETERS}"
        for path in python_files()
        for name, constructor in constructors(classes_of(path))
        if count_parameters(constructor) > MAX_PARAMETERS
    }
    assert not large


def test_a_class_has_few_public_methods_or_a_reason() -> None:
    large = {
        node.name: len(public_methods(node))
        for path in python_files()
        for node in classes_of(path)
        if len(public_methods(node)) > MAX_PUBLIC_METHODS
    }
    assert {name: count for name, count in large.items() if name not in MANY_METHODS} == {}
    assert MANY_METHODS.keys() <= large.keys(), "a class needs its reason no longer"


def test_a_class_name_stands_once() -> None:
    found = [
        (node.name, name_of(path))
        for path in python_files()
        for node in classes_of(path)
        if node.col_offset == 0
    ]
    counts = Counter(name for name, _ in found)
    assert [one for one in found if counts[one[0]] > 1] == []


def test_a_constructor_makes_one_assignment_a_line() -> None:
    parallel = {
        f"{name_of(path)}:{line}: {name}"
        for path in python_files()
        for name, constructor in constructors(classes_of(path))
        for line in parallel_assignments(constructor)
    }
    assert not parallel


def test_what_is_counted_is_what_is_meant() -> None:
    source = (
        "class Pair:\n"
        "    def __init__(self, a, b, *, c=1):\n"
        "        self.a, self.b = a, b\n"
        "        self.c = self.d = c, c\n"
        "    @property\n"
        "    def size(self): ...\n"
        "    @size.setter\n"
        "    def size(self, value): ...\n"
        "    async def read(self): ...\n"
        "    def _hidden(self): ...\n"
    )
    [pair] = classes_in(source)
    [(name, constructor)] = constructors([pair])
    assert (name, count_parameters(constructor)) == ("Pair", 3)
    assert parallel_assignments(constructor) == [3]
    assert public_methods(pair) == {"size", "read"}
