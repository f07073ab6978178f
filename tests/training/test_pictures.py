"""The pictures of a folder, a zip or an LMDB are found by name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.tiny import tiny_picture
from training.pictures import Pictures
from transrec.content import Picture
from transrec.images import ImageError


@pytest.mark.parametrize("zipped", [True, False])
def test_pictures_of_a_folder_and_of_a_zip_are_found_by_name(tmp_path: Path, zipped: bool) -> None:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(tiny_picture(1))
    (folder / "2.png").write_bytes(tiny_picture(2))
    (tmp_path / "secret.png").write_bytes(tiny_picture(3))
    if zipped:
        with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
            archive.write(folder / "a" / "1.png", "a/1.png")
            archive.write(folder / "2.png", "2.png")
    pictures = Pictures(tmp_path / "images.zip" if zipped else folder)
    found = pictures.find("a/1.png")
    assert found == Picture.of(tiny_picture(1))
    assert found is not None
    assert found.read() == tiny_picture(1)
    assert pictures.find("3.png") is None
    assert pictures.find("../secret.png") is None
    assert (pictures.find("1.png") is not None) == zipped  # in a zip a bare name is enough


def test_a_zip_whose_files_have_equal_names_is_asked_by_their_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for number, member in enumerate(
            ("images/010/1.png", "images/020/1.png", "images/010/2.png")
        ):
            archive.writestr(member, tiny_picture(number))
    pictures = Pictures(tmp_path / "images.zip")
    assert pictures.find("020/1.png") == Picture.of(tiny_picture(1))
    assert (
        pictures.find("images/010/2.png") == pictures.find("2.png") == Picture.of(tiny_picture(2))
    )
    assert pictures.find("10/2.png") is None
    with pytest.raises(
        ImageError, match=r"images\.zip holds images/010/1\.png and images/020/1\.png: name one"
    ):
        pictures.find("1.png")


def test_a_damaged_zip_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", tiny_picture(1))
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"1\.png: cannot be read from images\.zip"):
        Pictures(path).find("1.png")


@pytest.mark.parametrize("name", ["nowhere.zip", "no.zip"])
def test_what_is_no_folder_and_no_zip_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "no.zip").write_text("no zip", "utf-8")
    with pytest.raises(ImageError, match=name):
        Pictures(tmp_path / name)
