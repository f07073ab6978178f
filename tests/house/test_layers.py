"""The arrows of docs/architecture.md, read from the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT: dict[str, set[str]] = {
    "transrec": set(),
    "adapters_store": set(),
    "service": {"transrec", "adapters_store"},
    "training": {"transrec", "adapters_store"},
    "swaprec": {"transrec", "adapters_store", "service", "training"},
}
FOREIGN = {
    "transrec": {"fastapi", "starlette", "httpx", "redis", "sqlite3", "faiss", "polars"},
    "adapters_store": {"torch", "transformers", "fastapi", "starlette", "httpx", "redis"},
    "training": {"fastapi", "starlette", "httpx", "redis", "faiss"},
    "service": {"transformers", "polars", "httpx"},
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of everything a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                # A module that is named is imported itself; a package's face that only hands it on is not asked.
                inner = f"{node.module}.{alias.name}"
                found.add(inner if is_module(inner) else node.module or "")
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down_and_siblings_do_not_see_each_other(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package} | FOREIGN.get(package, set())
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in forbidden
    }
    assert modules(package)
    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in MAY_IMPORT
        for path in modules(package)
    }
    graph = {name: imports(path) & names.keys() - {name} for name, path in names.items()}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"circles among {sorted(graph)}"
