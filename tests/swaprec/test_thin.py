"""`pip install swaprec` alone: the client and the
command line work without what its extras bring.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from swaprec.client import Client
from swaprec.errors import MISSING_EXTRA
from swaprec.extras import MARKERS
from swaprec.publish import handover, to_folder
from tests.swaprec.conftest import World

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
MODULES = {"faiss-cpu": "faiss", "pillow": "PIL"}
"""Modules that are not named as their distribution is."""


def modules(requirements: list[str]) -> set[str]:
    """Names of the modules that requirements bring."""
    names = [re.match(r"[a-z0-9-]+", one)[0] for one in requirements]  # type: ignore[index]
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def with_their_needs(requirements: list[str]) -> set[str]:
    """Names of distributions, and of all that they need themselves."""
    found: set[str] = set()
    waiting = [Requirement(one) for one in requirements]
    while waiting:
        one = waiting.pop()
        if one.name in found or not (one.marker is None or one.marker.evaluate({"extra": ""})):
            continue
        found.add(one.name)
        waiting += map(Requirement, requires(one.name) or ())
    return found


PRESENT = modules(sorted(with_their_needs(PROJECT["dependencies"])))
ABSENT = (modules(EXTRAS["serve"]) | modules(EXTRAS["train"])) - PRESENT
REFUSE = f"""
import sys

class Refuse:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse)
"""


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a process that has nothing of the extras."""
    command = [sys.executable, "-c", REFUSE + code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


def swaprec(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return python("from swaprec.cli import main; main()", *arguments)


def test_the_extras_bring_what_is_refused_here() -> None:
    assert {
        "torch",
        "transformers",
        "numpy",
        "polars",
        "faiss",
        "fastapi",
        "safetensors",
        "pyarrow",
    } <= ABSENT


def test_the_client_is_imported_without_the_extras() -> None:
    done = python(
        "from swaprec import AsyncClient, Client, ProblemError; import swaprec.cli;"
        " Client().close()"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [(), ("serve",), ("train",), ("items", "load"), ("import",)])
def test_help_needs_no_extra(command: tuple[str, ...]) -> None:
    done = swaprec(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--help" in done.stdout


def test_commands_ask_a_service_without_the_extras(client: Client, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("item_id,title\n1,Storm\n2,Harbour\n")
    (tmp_path / "pictures").mkdir()
    client.put_domain("films", "Films")
    at = ("--url", client.url)
    loaded = swaprec(
        "items", "load", "films", tmp_path / "films.csv", "--images", tmp_path / "pictures", *at
    )
    assert (loaded.returncode, loaded.stdout) == (
        0,
        "2 accepted, 0 updated, 0 unchanged, 0 rejected\n",
    )
    for command, said in (
        (("domains", "list"), "Films"),
        (("domains", "show", "films"), "2 stored"),
        (("items", "list", "films"), "Harbour"),
        (("recommend", "films", "1"), "Harbour"),
        (("versions", "list"), "version"),
        (("jobs", "list", "--json"), "["),
    ):
        done = swaprec(*command, *at)
        assert (done.returncode, said in done.stdout, done.stderr) == (0, True, "")


def test_a_folder_of_a_run_is_published_without_the_extras(
    client: Client, world: World, tmp_path: Path
) -> None:
    place = to_folder(handover(world.run), tmp_path)
    done = swaprec("publish", place, "--url", client.url)
    assert (done.returncode, done.stdout) == (0, "walk@1\n"), done.stderr


def test_a_bundle_is_pushed_without_the_extras(client: Client, world: World) -> None:
    done = swaprec("push", world.run, "--create", "--url", client.url)
    assert (done.returncode, done.stdout) == (0, "walk@1\n"), done.stderr


def test_keys_are_made_without_the_extras(tmp_path: Path) -> None:
    assert swaprec("keys", "add", "ops", "--data", tmp_path).stdout.startswith("sr")
    assert "ops" in swaprec("keys", "list", "--data", tmp_path).stdout


@pytest.mark.parametrize(
    ("command", "extras"),
    [
        ("serve", "serve"),
        ("doctor", "serve"),
        ("restore", "serve"),
        ("train run.toml", "train"),
        ("evaluate run", "train"),
        ("import csv here there", "train"),
        ("import-peft here there --backbone b --domain d", "train"),
        ("params run.toml", "train"),
        ("experiment 1-text", "train"),
        ("report runs", "train"),
        ("seed", "train"),
        ("demo --url http://127.0.0.1:1", "train"),
        ("demo", "serve,train"),
    ],
)
def test_a_command_says_in_one_line_which_extra_it_needs(command: str, extras: str) -> None:
    done = swaprec(*command.split())
    name = command.split(maxsplit=1)[0]
    assert (
        done.stderr == f"error: swaprec {name} needs packages that are not installed: pip install"
        f" 'swaprec[{extras}]'\n"
    )
    assert (done.returncode, done.stdout) == (MISSING_EXTRA, "")


def test_a_parquet_file_needs_an_extra_and_says_so(client: Client, tmp_path: Path) -> None:
    client.put_domain("films")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    done = swaprec("items", "load", "films", tmp_path / "x.parquet", "--url", client.url)
    assert done.returncode == MISSING_EXTRA
    assert (
        done.stderr == "error: a Parquet file needs packages that are not installed: pip install"
        " 'swaprec[train]'\n"
    )


def test_a_run_is_published_only_with_the_extra(world: World) -> None:
    done = swaprec("publish", world.run)
    assert done.returncode == MISSING_EXTRA
    assert (
        done.stderr
        == "error: the run of a bundle needs packages that are not installed: pip install"
        " 'swaprec[train]'\n"
    )


def test_what_two_extras_bring_has_one_bound() -> None:
    bounds: dict[str, set[str]] = {}
    for one in [*PROJECT["dependencies"], *EXTRAS["serve"], *EXTRAS["train"]]:
        name, bound = re.fullmatch(r"([a-z0-9-]+)(.*)", one).groups()  # type: ignore[union-attr]
        bounds.setdefault(name, set()).add(bound)
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


@pytest.mark.parametrize("extra", ["serve", "train"])
def test_the_modules_that_stand_for_an_extra_are_among_those_it_brings(extra: str) -> None:
    assert set(MARKERS[extra]) <= modules(EXTRAS[extra])  # type: ignore[index]


def test_development_brings_every_extra() -> None:
    assert "swaprec[serve,train]" in EXTRAS["dev"]
