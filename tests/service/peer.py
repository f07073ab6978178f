"""Another process on the same state: does what it is told, a line of JSON each, and answers in one.

`peer.py BACKEND FOLDER URL`; a line is `[method, arguments]`. Without torch: it starts in a moment.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.errors import ServiceError
from service.state import DomainRecord, State, StoredItem
from tests.service.kill_writer import open_state

TIMEOUT_S = 60.0


def answer(state: State, method: str, arguments: list[Any]) -> Any:
    if method == "work":
        return work(state, *arguments)
    if method == "update_job":
        job_id, token, changes = arguments
        return state.update_job(job_id, token=token, **changes)
    if method == "put_domain":
        arguments = [DomainRecord(*arguments)]
    if method == "upsert_items":
        arguments = [arguments[0], [StoredItem(*one) for one in arguments[1]]]
    return getattr(state, method)(*arguments)


def work(state: State, owner: str) -> list[tuple[int, str]]:
    """Do jobs until there is none left; returns tokens and jobs."""
    done = []
    while job := state.claim_job(owner, TIMEOUT_S):
        state.update_job(job.id, token=job.token, status="succeeded")
        done.append((job.token, job.id))
    return done


def main(backend: str, folder: str, url: str) -> None:
    state = open_state(backend, Path(folder), url)
    say("ready")
    for line in sys.stdin:
        try:
            found = answer(state, *json.loads(line))
        except ServiceError as error:
            found = type(error).__name__
        say(found)


def say(what: Any) -> None:
    sys.stdout.write(json.dumps(what, default=asdict) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
