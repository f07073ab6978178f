"""`python -m swaprec`."""

from __future__ import annotations

from swaprec.cli import main

main()
