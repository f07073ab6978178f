"""What `pip install .` takes in an empty environment: the client and the command line, without any
extra.

    python -m benchmarks.thin

It fetches the packages, so it needs an index. Exits with 1 where they take more than `LIMIT_MB`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_MB = 60
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
"""What an empty environment has already."""


def measure(site_packages: Path) -> dict[str, float]:
    """Return the megabytes of each package of a folder,
    largest first; compiled files are counted too.
    """
    sizes = {
        package.name: sum(
            file.stat().st_size for file in [package, *package.rglob("*")] if file.is_file()
        )
        / 1e6
        for package in site_packages.iterdir()
        if package.name.partition("-")[0] not in TOOLS
    }
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def main() -> int:
    """Install, run the program once, and print what was installed."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place, with_pip=True)
        pip = str(place / "bin" / "pip")
        constraints = str(ROOT / "constraints.txt")
        subprocess.run(
            [pip, "install", "--quiet", "--constraint", constraints, str(ROOT)], check=True
        )
        subprocess.run([place / "bin" / "swaprec", "--version"], check=True, cwd=place)
        [site_packages] = place.glob("lib/python*/site-packages")
        sizes = measure(site_packages)
    for name, size in sizes.items():
        if size >= 1:
            print(f"{size:6.1f} MB  {name}")
    total = sum(sizes.values())
    holds = total <= LIMIT_MB
    bar = "installed MB of the client"
    print(json.dumps({"bar": bar, "value": round(total, 1), "target": LIMIT_MB, "holds": holds}))
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
