"""Pictures are read safely, and what cannot be read is named."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_picture
from transrec import images
from transrec.content import Content, Picture, Pictures
from transrec.images import ImageError, check, decode


def written(image: Image.Image, form: str, **more: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **more)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_the_usual_forms_become_rgb(form: str) -> None:
    image = decode(written(Image.new("RGB", (9, 7), "red"), form))
    assert (image.mode, image.size) == ("RGB", (9, 7))
    red = np.asarray(image)[3, 4]
    assert red[0] > 240
    assert red[1:].max() < 15


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "I;16", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert decode(written(Image.new(mode, (5, 4)), form)).mode == "RGB"


def test_what_is_transparent_is_white() -> None:
    assert np.asarray(decode(written(Image.new("RGBA", (3, 3), (0, 0, 0, 0)), "PNG"))).min() == 255


def test_a_photo_that_lies_on_its_side_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    assert decode(written(Image.new("RGB", (30, 10)), "JPEG", exif=exif)).size == (10, 30)


@pytest.mark.parametrize("read", [decode, check])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "film.jpg: not a picture; JPEG, PNG"),
        (b"%PDF-1.4 ...", "film.jpg: not a picture"),
        (written(Image.new("RGB", (9, 7)), "TIFF"), "film.jpg: not a picture"),
        (tiny_picture(1, (64, 64))[:-2000], "film.jpg: damaged or truncated"),
        (written(Image.effect_noise((64, 64), 50), "JPEG")[:-600], "film.jpg: damaged or truncated"),
        (b"x" * (images.MAX_BYTES + 1), "bytes, at most"),
    ],
    ids=["empty", "pdf", "tiff", "truncated_png", "truncated_jpeg", "too_large"],
)
def test_what_is_no_whole_picture_is_refused_by_name(read: object, content: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        read(content, "film.jpg")  # type: ignore[operator]


@pytest.mark.parametrize("size", [(20_000, 20_000), (40_000, 1)])
def test_a_small_file_of_many_pixels_is_refused_before_it_is_unpacked(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="pixels"):
        decode(written(Image.new("1", size), "PNG"))


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
        for number, member in enumerate(("images/010/1.png", "images/020/1.png", "images/010/2.png")):
            archive.writestr(member, tiny_picture(number))
    pictures = Pictures(tmp_path / "images.zip")
    assert pictures.find("020/1.png") == Picture.of(tiny_picture(1))
    assert pictures.find("images/010/2.png") == pictures.find("2.png") == Picture.of(tiny_picture(2))
    assert pictures.find("10/2.png") is None
    with pytest.raises(ImageError, match=r"images\.zip holds images/010/1\.png and images/020/1\.png: name one"):
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


def test_equal_contents_have_equal_keys_and_others_have_not() -> None:
    one, same, other = (Picture.of(tiny_picture(number)) for number in (1, 1, 2))
    contents = [Content("a"), Content("a", one), Content("", one), Content("a", other), Content("b", one)]
    assert len({content.key() for content in contents}) == 5
    assert Content("a", one) == Content("a", same)
    assert Content("a", one).key() == Content("a", same).key()
