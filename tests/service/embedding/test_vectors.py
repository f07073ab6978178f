from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.embedding.segments import MAX_SEGMENTS, SUFFIX, Segments, as_keys
from service.embedding.vectors import VectorFiles
from service.embedding.versions import Prepared
from service.embedding.worker import BuildFailed, WorkerProcess
from service.errors import StateUnavailable
from tests.service.conftest import wait_until
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle, tiny_texts
from transrec.backbone import Backbone
from transrec.content import KEY_BYTES, Content
from transrec.embed import embed

WIDTH = 4


def keys_of(numbers: range) -> np.ndarray:
    return as_keys([number.to_bytes(8, "big") + bytes(KEY_BYTES - 8) for number in numbers])


def vectors_of(numbers: range) -> np.ndarray:
    return np.array([[number, -number, 0.5, 1] for number in numbers], np.float32).reshape(
        -1, WIDTH
    )


def test_what_is_added_is_found_by_every_reader_and_nothing_else_is(tmp_path: Path) -> None:
    one = Segments(tmp_path, WIDTH)
    other = Segments(tmp_path, WIDTH)
    one.add(keys_of(range(100)), vectors_of(range(100)))
    other.add(keys_of(range(100, 103)), vectors_of(range(100, 103)))
    out = np.zeros((110, WIDTH), np.float32)
    for reader in (one, other):
        assert reader.look_up(keys_of(range(110)), out).tolist() == [True] * 103 + [False] * 7
        assert np.array_equal(out[:103], vectors_of(range(103)))


def test_keys_that_begin_alike_are_distinguished(tmp_path: Path) -> None:
    segments = Segments(tmp_path, WIDTH)
    keys = as_keys([bytes(8) + number.to_bytes(8, "big") for number in (1, 2)])
    segments.add(keys[:1], vectors_of(range(1)))
    assert segments.look_up(keys).tolist() == [True, False]


def test_many_small_additions_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    segments = Segments(tmp_path, WIDTH)
    segments.add(keys_of(range(1000)), vectors_of(range(1000)))
    large = next(tmp_path.glob(f"*{SUFFIX}"))
    for number in range(1000, 1200):
        segments.add(keys_of(range(number, number + 1)), vectors_of(range(number, number + 1)))
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) <= MAX_SEGMENTS
    assert large.exists(), "a large one is not written anew for a few small ones"
    out = np.zeros((1200, WIDTH), np.float32)
    assert Segments(tmp_path, WIDTH).look_up(keys_of(range(1200)), out).all()
    assert np.array_equal(out, vectors_of(range(1200)))


def test_a_damaged_segment_counts_as_absent_and_is_written_again(tmp_path: Path) -> None:
    Segments(tmp_path, WIDTH).add(keys_of(range(10)), vectors_of(range(10)))
    [path] = tmp_path.glob(f"*{SUFFIX}")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    segments = Segments(tmp_path, WIDTH)
    assert not segments.look_up(keys_of(range(10))).any()
    segments.add(keys_of(range(10)), vectors_of(range(10)))
    assert Segments(tmp_path, WIDTH).look_up(keys_of(range(10))).all()
    assert not Segments(tmp_path, WIDTH + 1).look_up(keys_of(range(10))).any(), "of another width"


def test_what_is_kept_again_and_again_is_kept(tmp_path: Path) -> None:
    segments = Segments(tmp_path, WIDTH)
    segments.add(keys_of(range(100)), vectors_of(range(100)))
    for number in range(2 * MAX_SEGMENTS):  # merged, they are the file that is there
        segments.add(keys_of(range(number, number + 1)), vectors_of(range(number, number + 1)))
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) <= MAX_SEGMENTS
    assert Segments(tmp_path, WIDTH).look_up(keys_of(range(100))).all()


def test_who_reads_while_others_merge_finds_what_was_there_before(tmp_path: Path) -> None:
    writer = Segments(tmp_path, WIDTH)
    ended = threading.Event()
    writer.add(keys_of(range(50)), vectors_of(range(50)))

    def write() -> None:
        for number in range(50, 1500):
            writer.add(keys_of(range(number, number + 1)), vectors_of(range(number, number + 1)))
        ended.set()

    writing = threading.Thread(target=write)
    writing.start()
    reads = 0
    while not ended.is_set():
        assert Segments(tmp_path, WIDTH).look_up(keys_of(range(50))).all()
        reads += 1
    writing.join()
    assert reads > 10


ADDER = """
import sys
from pathlib import Path
from service.embedding.segments import Segments
from tests.service.embedding.test_vectors import WIDTH, keys_of, vectors_of
start = int(sys.argv[2])
segments = Segments(Path(sys.argv[1]), WIDTH)
for number in range(start, start + 300):
    segments.add(keys_of(range(number, number + 1)), vectors_of(range(number, number + 1)))
"""


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    adders = [
        subprocess.Popen([sys.executable, "-c", ADDER, str(tmp_path), str(1000 * place)], cwd=root)
        for place in range(3)
    ]
    assert [adder.wait(60) for adder in adders] == [0, 0, 0]
    out = np.zeros((300, WIDTH), np.float32)
    for place in range(3):
        numbers = range(1000 * place, 1000 * place + 300)
        assert Segments(tmp_path, WIDTH).look_up(keys_of(numbers), out).all()
        assert np.array_equal(out, vectors_of(numbers))


def test_what_is_known_is_not_embedded_again_and_equal_contents_once(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    reported = list[tuple[int, int]]()
    version = Prepared(None, backbone.fingerprint, "float32", None, 0)
    files = VectorFiles(tmp_path)
    contents = [Content(text) for text in tiny_texts(20)]
    first = files.complete("movies", version, contents[:10], backbone)
    again = files.complete(
        "movies",
        version,
        [*contents, contents[3]],
        backbone,
        lambda done, total: reported.append((done, total)),
    )
    assert reported[-1] == (10, 10)
    assert np.array_equal(again[:10], first)
    assert np.array_equal(again[20], again[3])
    assert files.missing("movies", version, [*contents, Content("new"), Content("new")], 16) == 1
    files.sweep("movies", lambda: [backbone.fingerprint])
    assert files.missing("movies", version, contents, 16) == 0
    files.sweep("movies", list)
    assert files.missing("movies", version, contents, 16) == len(set(contents))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture
def worker(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.getbasetemp() / "backbone0" / "tiny"
    made = WorkerProcess(
        lambda fingerprint: folder if fingerprint == backbone.fingerprint else None,
        least=5,
        threads=1,
    )
    yield made
    made.close()


@pytest.mark.slow
def test_another_process_makes_the_very_same_vectors(
    worker: WorkerProcess, backbone: Backbone, tmp_path: Path
) -> None:
    adapter = tiny_adapter(backbone, 1)
    bundle = tiny_bundle(tmp_path / "b.safetensors", backbone, "movies", adapter)
    contents = [Content(text) for text in [*tiny_texts(50), "two lines\nand \u2028 more"]]
    reported: list[tuple[int, int]] = []
    files = VectorFiles(tmp_path / "vectors", worker)
    for version in (
        Prepared(1, "1" * 64, "float32", adapter, 0, bundle),
        Prepared(None, backbone.fingerprint, "bfloat16", None, 0),
    ):
        found = files.complete(
            "movies", version, contents, backbone, lambda *step: reported.append(step)
        )
        assert np.array_equal(
            found, embed(backbone, contents, version.adapter, dtype=version.dtype)
        )
    assert reported[-1] == (len(set(contents)), len(set(contents)))


@pytest.mark.slow
def test_a_killed_embedding_says_so_and_the_next_one_goes_on(
    worker: WorkerProcess, backbone: Backbone, tmp_path: Path
) -> None:
    contents = [Content(f"film {number}") for number in range(3000)]
    version = Prepared(None, backbone.fingerprint, "float32", None, 0)
    files = VectorFiles(tmp_path, worker)

    def kill(done: int, _: int) -> None:
        if done:
            process = worker._process
            assert process is not None
            process.send_signal(signal.SIGKILL)

    with pytest.raises(BuildFailed, match="ended with signal 9"):
        files.complete("movies", version, contents, backbone, kill)
    assert files.complete("movies", version, contents, backbone).shape == (3000, 16)


@pytest.mark.slow
def test_an_embedding_whose_process_is_killed_once_is_asked_for_once_more(
    worker: WorkerProcess, backbone: Backbone, tmp_path: Path
) -> None:
    contents = [Content(f"film {number}") for number in range(3000)]
    version = Prepared(None, backbone.fingerprint, "float32", None, 0)
    killed: list[int] = []

    def kill(done: int, _: int) -> None:
        process = worker._process
        if done and not killed and process is not None:
            killed.append(process.pid)
            process.send_signal(signal.SIGKILL)

    found = VectorFiles(tmp_path, worker).complete("movies", version, contents, backbone, kill)
    assert killed
    assert worker._process is not None
    assert worker._process.pid != killed[0]
    assert np.array_equal(found[:50], embed(backbone, contents[:50], None, dtype="float32"))


@pytest.mark.slow
def test_a_cancelled_embedding_leaves_no_process(
    worker: WorkerProcess, backbone: Backbone, tmp_path: Path
) -> None:
    def stop(_: int, __: int) -> None:
        raise KeyboardInterrupt

    files = VectorFiles(tmp_path, worker)
    with pytest.raises(KeyboardInterrupt):
        files.complete(
            "movies",
            Prepared(None, backbone.fingerprint, "float32", None, 0),
            [Content(f"film {number}") for number in range(500)],
            backbone,
            stop,
        )
    assert worker._process is None


@pytest.mark.slow
def test_the_process_ends_with_the_one_that_started_it(backbone: Backbone, tmp_path: Path) -> None:
    backbone.save(tmp_path / "tiny")
    code = (
        "import sys, time; from pathlib import Path; from service.embedding.worker import"
        " WorkerProcess\ne = WorkerProcess(lambda _: Path(sys.argv[1]), least=1,"
        " threads=1)\nprint(e._running().pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "tiny")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not _alive(child))


def test_small_amounts_stay_in_this_process(
    worker: WorkerProcess, backbone: Backbone, tmp_path: Path
) -> None:
    files = VectorFiles(tmp_path, worker)
    version = Prepared(None, backbone.fingerprint, "float32", None, 0)
    threads = [
        threading.Thread(
            target=files.complete, args=("movies", version, [Content(f"film {place}")], backbone)
        )
        for place in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worker._process is None
    assert (
        files.missing("movies", version, [Content(f"film {place}") for place in range(5)], 16) == 1
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_build_whose_state_does_not_answer_can_be_asked_for_again(tmp_path: Path) -> None:
    backbone = tiny_backbone(tmp_path / "tiny")
    where = {"data": str(tmp_path), "redis": "redis://127.0.0.1:1", "least_for_index": 0}
    worker = WorkerProcess(lambda _: tmp_path / "tiny", least=1, threads=1, where=where)
    try:
        with pytest.raises(StateUnavailable, match=r"127\.0\.0\.1:1"):
            worker.compact("movies", backbone, [], 1, lambda _: lambda *_: None)
    finally:
        worker.close()
