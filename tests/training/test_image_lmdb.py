"""Pictures of the authors' LMDB files are read without running anything that such a file names."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.lmdbs import PIXELS, LMDB_Image, pickled, written
from training import image_lmdb
from training.image_lmdb import values_of
from training.pictures import Pictures
from transrec import images
from transrec.content import Picture
from transrec.images import ImageError, check, decode


class Runs:
    """A value that runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def found(path: Path, name: str) -> Picture:
    picture = Pictures(path).find(name)
    assert picture is not None
    return picture


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("protocol", [2, 3, None, pickle.HIGHEST_PROTOCOL])
def test_the_pixels_come_back_as_they_were_stored(
    tmp_path: Path, protocol: int | None, folder: bool
) -> None:
    path = written(tmp_path / "hm.lmdb", {"v1": pickled(protocol=protocol)}, folder=folder)
    picture = found(path, "v1.jpg")
    check(picture.read(), picture.name)
    assert np.array_equal(np.asarray(decode(picture.read())), PIXELS)
    assert picture == Picture.of(picture.read())
    assert found(path, "v1") == picture, "opened twice"


def test_a_large_picture_comes_back(tmp_path: Path) -> None:
    large = np.random.default_rng(1).integers(0, 256, (400, 300, 3), np.uint8)
    path = written(
        tmp_path / "images.lmdb",
        {"v1": pickled(pixels=large), "v2": pickled(pixels=large, protocol=2)},
    )
    assert np.array_equal(np.asarray(decode(found(path, "v1.jpg").read())), large)
    assert found(path, "v1.jpg") == found(path, "v2.jpg"), "a picture is known by its pixels"


def test_an_item_is_found_by_its_id_and_by_the_number_in_it(tmp_path: Path) -> None:
    other = pickled(pixels=PIXELS[::-1])
    path = written(tmp_path / "hm.lmdb", {"27903": pickled(27903), "v5": pickled("v5"), "5": other})
    assert found(path, "v27903.jpg") == found(path, "27903")
    assert found(path, "v5.jpg") == found(path, "v27903.jpg"), (
        "the id itself comes before the number in it"
    )


@pytest.mark.parametrize("name", ["v9.jpg", "nine", "v" * 600, ".."])
def test_an_id_that_is_missing_has_no_picture(tmp_path: Path, name: str) -> None:
    assert Pictures(written(tmp_path / "images.lmdb", {"v1": pickled()})).find(name) is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_names_something_else_is_refused_and_not_run(
    tmp_path: Path, protocol: int
) -> None:
    proof = tmp_path / "ran"
    hidden = LMDB_Image(PIXELS, Runs(f"touch {proof}"))
    for bad in (Runs(f"touch {proof}"), hidden):
        path = written(tmp_path / f"{type(bad).__name__}.lmdb", {"v1": pickle.dumps(bad, protocol)})
        with pytest.raises(
            ImageError, match=r"v1\.jpg: the pickle names (posix\.system|copy_?reg\._reconstructor)"
        ):
            Pictures(path).find("v1.jpg")
    assert not proof.exists()
    pickle.loads(pickle.dumps(hidden, protocol))  # noqa: S301 - shows that it would have run
    assert proof.exists()


def test_nothing_is_imported() -> None:
    sys.modules.pop("this", None)
    assert values_of(b"\x80\x02cthis LMDB_Image\nLMDB_Image\n)\x81}b.") == {}
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (pickled()[:-40], "damaged or truncated"),
        (pickled()[:60], "damaged or truncated"),
        (b"", "damaged or truncated"),
        (b"no pickle", "opcode"),
        (pickle.dumps([1, 2]), "opcode EMPTY_LIST: only an LMDB_Image is read"),
        (pickle.dumps("text"), "holds a str, expected an LMDB_Image"),
        (pickle.dumps(PIXELS), "names numpy"),
        (b"\x80\x04" + b"}" * 1000 + b".", "damaged or truncated"),
        (b"\x80\x04b.", "damaged or truncated"),
        (b"\x80\x04h\x07.", "damaged or truncated"),
        (b"\x80\x04K\x01K\x02\x86K\x01\x86.", "a pair of something else"),
        (b"\x80\x04K\x01K\x02\x93.", "a name that is no text"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.",
            "a call other than",
        ),
        (b"\x80\x02c_codecs\nencode\n)\x81.", "an object that is no LMDB_Image"),
    ],
    ids=[
        *(
            "in_the_tail",
            "in_the_pixels",
            "empty",
            "text",
            "list",
            "str",
            "array",
            "too_many",
            "underflow",
            "memo",
        ),
        *("nested", "name", "codec", "object"),
    ],
)
def test_what_is_no_whole_picture_is_refused_by_name(tmp_path: Path, bad: bytes, says: str) -> None:
    path = written(tmp_path / "images.lmdb", {"v1": bad})
    with pytest.raises(ImageError, match=says) as raised:
        Pictures(path).find("v1.jpg")
    assert str(raised.value).startswith("v1.jpg: ")


def changed(**attributes: object) -> bytes:
    image = LMDB_Image(PIXELS, "v1")
    vars(image).update(attributes)
    return pickle.dumps(image)


def test_an_image_without_its_size_names_what_it_has() -> None:
    image = LMDB_Image(PIXELS, "v1")
    vars(image).clear()
    image.image = b"as MicroLens keeps them"
    with pytest.raises(ImageError, match=r"expected channels 3, size .* got image \(bytes\)"):
        image_lmdb._bitmap(values_of(pickle.dumps(image)), "1.jpg")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (changed(channels=4), "expected channels 3"),
        (changed(size=(9, 7.0)), "opcode BINFLOAT"),
        (changed(size=(0, 7)), "expected channels 3"),
        (changed(size=(9, -7)), "expected channels 3"),
        (changed(size="97"), "expected channels 3"),
        (changed(image="text"), "expected channels 3"),
        (changed(size=(9, 8)), "189 bytes for 8 x 9 pixels of three"),
        (changed(size=(1, 40_000)), "40000 x 1 pixels, at most"),
        (changed(size=(20_000, 20_000)), "20000 x 20000 pixels, at most"),
        (changed(size=(2**60, 2**60)), "pixels, at most"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, bad: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        Pictures(written(tmp_path / "images.lmdb", {"v1": bad})).find("v1")


def test_a_value_that_is_too_large_is_refused_before_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "images.lmdb", {"v1": pickled()})
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    monkeypatch.setattr(image_lmdb, "genops", None)
    with pytest.raises(ImageError, match=r"v1\.jpg: \d+ bytes, at most 100 are read"):
        Pictures(path).find("v1.jpg")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_all_of_a_picture_is_read(protocol: int) -> None:
    # Wide numbers, and bytes outside of the pickle's frames.
    large = np.zeros((300, 70_000, 3), np.uint8)
    assert values_of(pickled(2**40, large, protocol)) == vars(LMDB_Image(large, 2**40))
    assert len(list(pickletools.genops(pickled(2**40, large, protocol)))) < image_lmdb.MAX_OPCODES


@pytest.mark.parametrize("content", [b"", b"no database" * 1000], ids=["empty", "text"])
def test_what_is_no_lmdb_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.lmdb").write_bytes(content)
    with pytest.raises(ImageError, match=r"images\.lmdb is no LMDB"):
        Pictures(tmp_path / "images.lmdb")


def test_an_lmdb_that_is_cut_off_is_refused_before_a_page_is_missed(tmp_path: Path) -> None:
    path = written(tmp_path / "images.lmdb", {f"v{number}": pickled() for number in range(100)})
    path.write_bytes(path.read_bytes()[:-8192])
    with pytest.raises(ImageError, match=r"images\.lmdb is cut off: \d+ of \d+ bytes"):
        Pictures(path)


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "images.lmdb", {"v1": pickled()})
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ImageError, match=r"pip install 'swaprec\[train\]'"):
        Pictures(path)


def test_a_folder_of_files_is_no_lmdb(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    (tmp_path / "v1.png").write_bytes(file.getvalue())
    assert found(tmp_path, "v1.png") == Picture.of(file.getvalue())
