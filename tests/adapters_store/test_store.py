from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters_store.bundle import Bundle, Manifest, check_bundle, write_bundle
from adapters_store.errors import (
    BundleError,
    BundleProblem,
    BundleTooLarge,
    InvalidName,
    NothingBefore,
    UnsupportedFormat,
    VersionInUse,
    VersionNotFound,
)
from adapters_store.store import Store

MANIFEST = Manifest(domain="movies", kind="houlsby", spec={}, backbone="f" * 64, dtype="float32")


def accept(bundle: Bundle) -> list[BundleProblem]:
    return check_bundle(bundle, {"a": (3,)}, "f" * 64)


def make(folder: Path, value: float, domain: str = "movies") -> Path:
    path = folder / f"{domain}-{value}.safetensors"
    write_bundle(path, replace(MANIFEST, domain=domain), {"a": np.full(3, value, np.float32)})
    return path


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_versions_count_up_and_keep_their_bytes(store: Store, tmp_path: Path) -> None:
    added = [store.add("movies", make(tmp_path, value), accept) for value in (1.0, 2.0)]
    assert [one.version for one in added] == [1, 2]
    assert store.open("movies", 2).tensors["a"].tolist() == [2.0, 2.0, 2.0]
    assert [card.version for card in Store(store.folder).versions("movies")] == [1, 2]


def test_the_same_bytes_again_are_the_version_they_already_are(
    store: Store, tmp_path: Path
) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    again = store.add("movies", make(tmp_path, 1.0), accept)
    assert (again.version, again.created) == (1, False)
    assert len(store.versions("movies")) == 1


def test_a_refused_bundle_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    write_bundle(wrong, replace(MANIFEST, backbone="0" * 64), {"b": np.array([np.nan])})
    with pytest.raises(BundleError) as caught:
        store.add("books", wrong, accept)
    kinds = {problem.kind for problem in caught.value.problems}
    assert kinds == {"manifest", "backbone_mismatch", "missing", "unexpected"}
    assert files(store.folder) == set()


def test_an_upload_is_hashed_on_its_way_and_moved_in(store: Store, tmp_path: Path) -> None:
    content = make(tmp_path, 1.0).read_bytes()
    with store.receive(10_000) as upload:
        for start in range(0, len(content), 7):
            upload.write(content[start : start + 7])
        sealed = upload.seal()
        card = store.add("movies", sealed, accept).card
    assert (card.size, card.digest) == (len(content), store.open("movies", 1).digest)
    assert files(store.folder) == {
        "movies/1/bundle.safetensors",
        "movies/1/card.json",
        "movies/current.json",
        ".copied/movies",
    }


def test_an_upload_over_the_limit_or_of_another_format_is_stopped_and_removed(store: Store) -> None:
    with pytest.raises(BundleTooLarge, match="10 bytes"), store.receive(10) as upload:
        upload.write(b"0" * 11)
    with pytest.raises(UnsupportedFormat), store.receive(10) as upload:
        upload.write(b"\x80\x04\x95rest")
    assert files(store.folder) == set()


@pytest.mark.parametrize("name", ["", "..", "../etc", "A", "a/b", "a" * 64, ".hidden", "a\n"])
def test_a_name_that_could_leave_the_folder_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidName, match="expected 1 to 63"):
        store.versions(name)


def test_a_missing_version_is_named_with_those_that_exist(store: Store, tmp_path: Path) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    with pytest.raises(VersionNotFound, match="movies has no version 7: it has 1"):
        store.open("movies", 7)
    with pytest.raises(VersionNotFound, match="it has none"):
        store.card("books", 1)


def test_bytes_changed_on_the_disk_are_noticed(store: Store, tmp_path: Path) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    path = store.bundle_path("movies", 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="upload it again"):
        store.open("movies", 1)


def test_a_deleted_number_is_never_given_again(store: Store, tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        store.add("movies", make(tmp_path, value), accept)
    store.delete("movies", 2)
    assert store.add("movies", make(tmp_path, 2.0), accept).version == 3
    with pytest.raises(VersionNotFound):
        store.bundle_path("movies", 2)


def test_the_live_version_and_the_one_before_cannot_be_deleted(
    store: Store, tmp_path: Path
) -> None:
    for value in (1.0, 2.0, 3.0):
        store.add("movies", make(tmp_path, value), accept)
    for version in (1, 2):
        store.record_activation("movies", version, "activate")
    assert (store.live("movies"), store.current("movies").previous) == (2, 1)
    with pytest.raises(VersionInUse, match="movies@2 is live"):
        store.delete("movies", 2)
    with pytest.raises(VersionInUse, match="rollback"):
        store.delete("movies", 1)
    store.delete("movies", 3)
    assert len(store.versions("movies")) == 2


def test_before_any_activation_the_frozen_backbone_is_live(store: Store) -> None:
    assert (
        store.live("movies"),
        store.current("movies").previous,
        store.activations("movies"),
    ) == (None, None, [])


def test_an_activation_of_a_version_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(VersionNotFound):
        store.record_activation("movies", 1, "activate")
    assert store.activations("movies") == []


def test_a_line_torn_by_a_crash_is_no_activation_and_the_next_one_repairs_it(
    store: Store, tmp_path: Path
) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    store.record_activation("movies", 1, "activate")
    log = store.folder / "movies" / "activations.jsonl"
    log.write_bytes(log.read_bytes() + b'{"version": nul')
    assert store.live("movies") == 1
    store.record_activation("movies", None, "rollback")
    assert [activation.version for activation in store.activations("movies")] == [1, None]


def test_the_last_line_of_a_log_says_where_a_domain_stands(store: Store, tmp_path: Path) -> None:
    for value in (1.0, 2.0, 3.0):
        store.add("movies", make(tmp_path, value), accept)
    for version in (1, 2):
        store.record_activation("movies", version, "activate")
    store.record_canary("movies", 3, 20, "canary")
    activation = store.current("movies")
    assert (
        activation.version,
        activation.previous,
        activation.canary,
        activation.percent,
        activation.number,
    ) == (
        2,
        1,
        3,
        20,
        3,
    )
    with pytest.raises(VersionInUse, match="movies@3 is a canary"):
        store.delete("movies", 3)
    assert store.activations("movies")[-1] == activation


def test_a_rollback_takes_back_the_canary_first_then_the_live_version(
    store: Store, tmp_path: Path
) -> None:
    for value in (1.0, 2.0):
        store.add("movies", make(tmp_path, value), accept)
    with pytest.raises(NothingBefore):
        store.rollback("movies")
    store.record_activation("movies", 1, "activate")
    store.record_canary("movies", 2, 5, "canary")
    back = [store.rollback("movies").activation for _ in range(2)]
    assert [(one.version, one.previous, one.percent) for one in back] == [
        (1, None, 0),
        (None, None, 0),
    ]
    with pytest.raises(NothingBefore, match="it has 1, 2"):
        store.rollback("movies")


def test_further_rollbacks_go_further_back_and_never_return_to_what_was_rolled_back_from(
    store: Store, tmp_path: Path
) -> None:
    for value in (1.0, 2.0, 3.0, 4.0):
        store.add("movies", make(tmp_path, value), accept)
        store.record_activation("movies", int(value), "activate")
    assert [store.rollback("movies").activation.version for _ in range(2)] == [3, 2]
    store.record_activation("movies", 4, "activate")
    assert [store.rollback("movies").activation.version for _ in range(3)] == [2, 1, None]
    with pytest.raises(NothingBefore):
        store.rollback("movies")


def test_a_rollback_passes_deleted_versions_and_names_them(store: Store, tmp_path: Path) -> None:
    for value in (1.0, 2.0, 3.0):
        store.add("movies", make(tmp_path, value), accept)
        store.record_activation("movies", int(value), "activate")
    store.delete("movies", 1)
    back = [store.rollback("movies") for _ in range(2)]
    assert [(one.activation.version, one.skipped) for one in back] == [(2, []), (None, [1])]


def test_what_a_rollback_would_return_to_next_is_not_deleted(store: Store, tmp_path: Path) -> None:
    for value in (1.0, 2.0, 3.0):
        store.add("movies", make(tmp_path, value), accept)
        store.record_activation("movies", int(value), "activate")
    store.rollback("movies")
    with pytest.raises(VersionInUse, match="rollback"):
        store.delete("movies", 1)
    store.delete("movies", 3)


def test_a_rollback_after_a_promotion_returns_to_what_was_live_before_the_canary(
    store: Store, tmp_path: Path
) -> None:
    for value in (1.0, 2.0):
        store.add("movies", make(tmp_path, value), accept)
    store.record_activation("movies", 1, "activate")
    store.record_canary("movies", 2, 5, "canary")
    store.record_activation("movies", 2, "promote")
    assert [store.rollback("movies").activation.version for _ in range(2)] == [1, None]


def test_promoting_a_canary_ends_it_and_keeps_the_old_version_to_go_back_to(
    store: Store, tmp_path: Path
) -> None:
    for value in (1.0, 2.0):
        store.add("movies", make(tmp_path, value), accept)
    store.record_activation("movies", 1, "activate")
    store.record_canary("movies", 2, 5, "canary")
    activation = store.record_activation("movies", 2, "promote")
    assert (activation.version, activation.previous, activation.canary, activation.percent) == (
        2,
        1,
        None,
        0,
    )


def test_a_log_of_the_first_format_reads_as_it_did(store: Store, tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        store.add("movies", make(tmp_path, value), accept)
    log = store.folder / "movies" / "activations.jsonl"
    lines = [{"version": version, "reason": "activate", "at": f"t{version}"} for version in (1, 2)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert (store.live("movies"), store.current("movies").previous) == (2, 1)
    assert store.record_activation("movies", 1, "activate").number == 3
    assert [(one.version, one.previous, one.at[:1]) for one in store.activations("movies")] == [
        (1, None, "t"),
        (2, 1, "t"),
        (1, 2, "2"),
    ]


def test_who_may_no_longer_write_records_nothing(store: Store) -> None:
    def overtaken() -> None:
        raise PermissionError("another process has taken over")

    with pytest.raises(PermissionError):
        store.record_activation("movies", None, "activate", overtaken)
    assert store.activations("movies") == []


def test_a_removed_domain_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.add("movies", make(tmp_path, 1.0), accept)
    store.remove_domain("movies")
    store.remove_domain("movies")
    assert store.domains() == []
    assert files(store.folder) == set()


def test_what_a_dead_upload_left_is_swept_and_a_living_one_is_not(store: Store) -> None:
    left = store.folder / ".incoming" / "dead.part"
    left.write_bytes(b"half")
    with store.receive(100) as upload:
        upload.write(b"0")
        Store(store.folder)
        assert upload.path.exists()
        assert not left.exists()


FULL_DISK = """
import resource, sys
from pathlib import Path
from adapters_store.errors import OutOfSpace
from adapters_store.store import Store
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.add("movies", Path(sys.argv[2]), lambda bundle: [])
except OutOfSpace as error:
    print("OutOfSpace", error)
"""


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    # A limit on file size is the full disk that a test can have: the write fails with EFBIG
    # half-way.
    path = tmp_path / "big.safetensors"
    write_bundle(path, MANIFEST, {"a": np.zeros(100_000, np.float32)})
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(store.folder), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("OutOfSpace no room left on the disk")
    assert files(store.folder) == set()
