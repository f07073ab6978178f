"""Pictures that no item names any more: removed some time later, and no others."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.content.blobs import GRACE_S, LOCK, NOTE, SWEEP_RETRY_S, Blobs
from service.errors import StateUnavailable
from service.jobs import Stopped
from tests.service.content.blob_folder import age, kept, swept
from tests.tiny import tiny_picture


def test_an_old_picture_that_nobody_names_is_noted_by_one_sweep_and_removed_by_the_next(
    blobs: Blobs, folder: Path
) -> None:
    digest = blobs.keep(tiny_picture(1))
    assert swept(blobs, folder) == {digest}
    assert swept(blobs, folder) == set()


def test_a_picture_that_is_named_stays(blobs: Blobs, folder: Path) -> None:
    named = blobs.keep(tiny_picture(1))
    other = blobs.keep(tiny_picture(2))
    assert swept(blobs, folder, named) == {named, other}
    assert [swept(blobs, folder, named) for _ in range(3)] == [{named}] * 3


def test_a_picture_that_is_named_when_the_second_sweep_looks_stays(
    blobs: Blobs, folder: Path
) -> None:
    digest = blobs.keep(tiny_picture(1))
    swept(blobs, folder)
    assert swept(blobs, folder, digest) == {digest}
    assert swept(blobs, folder) == {digest}, "it must be noted anew"


def test_a_young_picture_stays_and_nobody_is_asked_for_names(blobs: Blobs, folder: Path) -> None:
    def asked() -> list[str]:
        raise AssertionError

    digest = blobs.keep(tiny_picture(1))
    blobs.sweep(asked)
    os.utime(folder / NOTE, (1, 1))
    blobs.sweep(asked)
    assert kept(folder) == {digest}


def test_sweeps_within_the_grace_period_of_the_last_do_nothing(blobs: Blobs, folder: Path) -> None:
    digest = blobs.keep(tiny_picture(1))
    swept(blobs, folder)
    age(folder, GRACE_S / 2)
    blobs.sweep(list)
    assert kept(folder) == {digest}


def test_a_picture_that_is_kept_again_after_it_was_noted_stays(blobs: Blobs, folder: Path) -> None:
    digest = blobs.keep(tiny_picture(1))
    other = blobs.keep(tiny_picture(2))
    swept(blobs, folder)
    blobs.keep(tiny_picture(1))
    assert swept(blobs, folder) == {digest}, f"{other} was not kept again"
    assert swept(blobs, folder) == set()


def test_a_picture_that_is_kept_again_while_the_sweep_asks_for_names_stays(
    blobs: Blobs, folder: Path
) -> None:
    def named() -> list[str]:
        blobs.keep(tiny_picture(1))  # its item is not stored yet
        return []

    digest = blobs.keep(tiny_picture(1))
    swept(blobs, folder)
    age(folder)
    assert blobs.sweep(named) == 0
    assert kept(folder) == {digest}


def test_a_sweep_waits_for_whoever_is_keeping_a_picture_and_looks_at_its_time_then(
    blobs: Blobs, folder: Path
) -> None:
    asked = threading.Event()

    def named() -> list[str]:
        asked.set()
        return []

    digest = blobs.keep(tiny_picture(1))
    swept(blobs, folder)
    age(folder)
    with ThreadPoolExecutor() as pool:
        with (folder / digest[:2] / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            removed = pool.submit(blobs.sweep, named)
            assert asked.wait(20)
            time.sleep(0.05)  # a sweep that does not wait would be done
            os.utime(folder / digest[:2] / digest)
        assert removed.result() == 0
    assert kept(folder) == {digest}


def test_keeping_a_picture_that_is_cut_off_writes_it_again(blobs: Blobs, folder: Path) -> None:
    digest = blobs.keep(tiny_picture(1))
    path = folder / digest[:2] / digest
    path.write_bytes(path.read_bytes()[:-10])
    assert blobs.keep(tiny_picture(1)) == digest
    assert path.read_bytes() == tiny_picture(1)


def test_old_parts_of_killed_writers_go_and_young_ones_stay(blobs: Blobs, folder: Path) -> None:
    digest = blobs.keep(tiny_picture(1))
    old, young = (folder / digest[:2] / f".{name * 32}.part" for name in "ab")
    note = folder / f".{NOTE}.{'c' * 32}.part"
    for path in (old, note):
        path.write_bytes(b"half")
    age(folder)
    young.write_bytes(b"half")
    blobs.sweep(lambda: [digest])
    assert (old.exists(), note.exists(), young.exists()) == (False, False, True)


def test_what_is_no_picture_of_ours_is_left_alone(blobs: Blobs, folder: Path) -> None:
    digest = blobs.keep(tiny_picture(1))
    readme = folder / digest[:2] / "README"
    readme.write_text("do not touch")
    swept(blobs, folder)
    assert swept(blobs, folder) == {"README"}


def test_one_sweeps_at_a_time_among_processes(blobs: Blobs, folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from service.content.blobs import Blobs\n"
        "print(Blobs(Path(sys.argv[1])).sweep(list))"
    )

    def named() -> list[str]:
        other = subprocess.run(
            [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
        )
        assert other.stdout == "0\n"
        assert len(kept(folder)) == 1
        return []

    blobs.keep(tiny_picture(1))
    swept(blobs, folder)
    age(folder)
    assert blobs.sweep(named) == 1


def test_a_sweep_is_due_a_grace_period_after_the_last_and_an_hour_after_the_last_attempt(
    blobs: Blobs, folder: Path
) -> None:
    def removed() -> Iterator[str]:
        raise StateUnavailable("state is gone")
        yield

    assert not blobs.is_sweep_due(), "nothing was ever kept"
    blobs.keep(tiny_picture(1))
    assert blobs.is_sweep_due()
    age(folder)
    with pytest.raises(StateUnavailable):
        blobs.sweep(removed)
    assert not blobs.is_sweep_due()
    age(folder, SWEEP_RETRY_S)
    assert blobs.is_sweep_due()
    blobs.sweep(list)
    age(folder, SWEEP_RETRY_S)
    assert not blobs.is_sweep_due()
    age(folder)
    assert blobs.is_sweep_due()


def test_a_sweep_that_is_stopped_on_the_way_removes_nothing_more_and_the_next_goes_on(
    blobs: Blobs, folder: Path
) -> None:
    def check() -> None:
        if len(kept(folder)) < 4:
            raise Stopped

    for number in range(5):
        blobs.keep(tiny_picture(number))
    swept(blobs, folder)
    age(folder)
    with pytest.raises(Stopped):
        blobs.sweep(list, check)
    assert len(kept(folder)) == 3
    assert swept(blobs, folder) == set()


def test_what_is_kept_and_named_while_others_sweep_without_a_grace_period_is_never_lost(
    blobs: Blobs, folder: Path
) -> None:
    named: Counter[str] = Counter()
    turn = threading.Lock()
    over = threading.Event()

    def names() -> list[str]:
        with turn:  # not between the two below, as no sweep is within the grace period
            return [digest for digest, count in named.items() if count]

    def keep_and_name(content: bytes, pauses: random.Random) -> None:
        while not over.is_set():
            with turn:
                digest = blobs.keep(content)
                named[digest] += 1
            over.wait(pauses.random() / 50)
            assert blobs.picture(digest).read() == content
            with turn:
                named[digest] -= 1
            over.wait(pauses.random() / 50)

    with ThreadPoolExecutor() as pool:
        writers = [
            pool.submit(keep_and_name, tiny_picture(one), random.Random(one)) for one in range(8)
        ]
        removed = sum(
            blobs.sweep(names, lambda: time.sleep(0.0005), older_than_s=0) for _ in range(150)
        )
        over.set()
    assert [writer.result() for writer in writers] == [None] * 8
    assert removed > 0
    assert [swept(blobs, folder) for _ in range(2)][-1] == set()
