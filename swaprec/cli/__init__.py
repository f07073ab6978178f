"""The command line: `swaprec COMMAND`. Data goes to stdout, talk to stderr; `--json` prints one
document.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no service answers, 4 the service refused, 5 some
rows were rejected and the others stored, 6 an extra is not installed, 130 interrupted.
"""

from __future__ import annotations

from swaprec.cli.root import app, main

__all__ = ["app", "main"]
