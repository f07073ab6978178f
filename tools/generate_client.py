"""Writes the blocking client from the asynchronous one: `python -m tools.generate_client`.

A test compares them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from unasync import Rule, unasync_files

ROOT = Path(__file__).parents[1]
CLIENT = ROOT / "swaprec" / "client"
SOURCE = "asynchronous"
GENERATED = "sync"
HEAD = f"# Generated from ../{SOURCE} by `make fix`: change that one.\n"
REPLACEMENTS = {
    "AsyncClient": "Client",
    "AsyncItemRows": "ItemRows",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "asynchronous": "sync",
    "asyncio": "time",
    "chunks_async": "chunks",
}
"""Names that differ; unasync knows `__aenter__`, `AsyncIterator` and the like."""


def generate() -> dict[str, str]:
    """Return each file of the blocking client by its name."""
    with TemporaryDirectory() as name:
        source = Path(name, SOURCE)
        target = Path(name, GENERATED)
        shutil.copytree(CLIENT / SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
        rule = Rule(f"/{SOURCE}/", f"/{GENERATED}/", REPLACEMENTS)
        unasync_files([str(path) for path in source.glob("*.py")], [rule])
        return {
            path.name: _tidy(path.name, path.read_text("utf-8")) for path in target.glob("*.py")
        }


def _tidy(name: str, content: str) -> str:
    """Sort the imports and format, as ruff does for a file of that name in its place."""
    place = str((CLIENT / GENERATED / name).relative_to(ROOT))
    for step in (["check", "--fix", "--select", "I"], ["format"]):
        command = [sys.executable, "-m", "ruff", *step, "--quiet", "--stdin-filename", place, "-"]
        done = subprocess.run(
            command, cwd=ROOT, input=content, stdout=subprocess.PIPE, text=True, check=True
        )
        content = done.stdout
    return HEAD + content


def main() -> int:
    """Write the files, and delete those whose source is gone."""
    files = generate()
    folder = CLIENT / GENERATED
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.py"):
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (folder / name).write_text(content, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
