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
EVERYBODY = {"errors", "settings", "version"}
"""Modules of `service/` that every room may import."""
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "die_with_parent": set(),
    "wire": set(),
    "settings": {"wire"},
    "state": set(),
    "access": set(),
    "catalog": {"state"},
    "engine": {"catalog"},
    "jobs": {"state", "wire"},
    "content": {"wire", "state", "engine", "jobs"},
    "embedding": {"catalog", "content", "engine", "state", "die_with_parent"},
    "live": {"catalog", "content", "embedding", "engine", "jobs", "state", "wire"},
    "process": {"catalog"},
    "data_folder": {"state"},
    "telemetry": {"jobs", "live"},
    "recommend": {"access", "live", "engine", "content", "state", "wire"},
    "ingest": {"live", "embedding", "content", "jobs", "state", "wire"},
    "rollout": {
        *("recommend", "live", "embedding", "engine", "catalog", "content", "jobs", "state"),
        "wire",
    },
    "http": {
        *("access", "catalog", "content", "embedding", "engine", "ingest", "jobs", "live"),
        *("recommend", "rollout", "state", "telemetry", "wire"),
    },
}
"""Each room, or module at the top of `service/`,
and what it may import; `app`, `server` and `workers` import all.
"""
TOP = {"app", "server", "workers"}
MAX_FLOORS = 13
MAX_ARROWS = 110


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
                # A module that is named is imported itself; a package's face that only hands it on
                # is not asked.
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


def room_of(name: str) -> str:
    """The room of a module of `service/`, or the module itself where it lies at the top."""
    return name.split(".")[1] if "." in name else ""


def room_arrows() -> dict[str, set[str]]:
    """Which rooms each room imports, by the imports of its modules."""
    arrows: dict[str, set[str]] = {}
    for path in modules("service"):
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found = {room_of(name) for name in imports(path) if name.startswith("service.")}
        arrows.setdefault(room, set()).update(found - {room, "__init__", ""})
    arrows.pop("__init__", None)
    return arrows


def test_every_room_imports_only_what_it_may() -> None:
    arrows = room_arrows()
    assert arrows.keys() == ROOMS.keys() | TOP, (
        "a new room, or module at the top, needs a line in ROOMS"
    )
    wrong = {
        f"{room} imports {name}"
        for room, allowed in ROOMS.items()
        for name in arrows[room] - allowed - EVERYBODY
    }
    assert not wrong


def test_rooms_have_no_circles_few_floors_and_few_arrows() -> None:
    arrows = room_arrows()
    floors = 0
    left = dict(arrows)
    while lowest := [room for room, targets in left.items() if not targets & left.keys()]:
        floors += 1
        for room in lowest:
            del left[room]
    assert not left, f"circles among {sorted(left)}"
    assert floors <= MAX_FLOORS
    assert sum(map(len, arrows.values())) <= MAX_ARROWS
