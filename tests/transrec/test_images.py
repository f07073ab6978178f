"""Pictures are read safely, and what cannot be read is named."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.tiny import tiny_picture
from transrec import images
from transrec.content import Content, Picture
from transrec.images import ImageError, Preprocessing, check, decode, pixels, read_pixels


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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_photo_is_turned_as_its_camera_says(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = written(Image.open(io.BytesIO(tiny_picture(3, (30, 10)))), form, exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert decode(content).tobytes() == wanted.tobytes()


def grey(depth: int) -> Image.Image:
    ramp = np.linspace(0, 2**depth - 1, 400).reshape(20, 20)
    return Image.fromarray(ramp.astype(np.uint16 if depth == 16 else np.uint8))


def test_grey_of_sixteen_bits_is_as_bright_as_grey_of_eight() -> None:
    coarse, fine = (
        np.asarray(decode(written(grey(depth), "PNG"))).astype(int) for depth in (8, 16)
    )
    assert abs(coarse - fine).max() <= 1
    assert fine.min() == 0
    assert fine.max() == 255


def palette() -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 128, 0])
    image.putpixel((0, 0), 0)
    return image


@pytest.mark.parametrize(
    ("content", "corner", "rest"),
    [
        (written(palette(), "PNG", transparency=0), (255, 255, 255), (0, 128, 0)),
        (written(palette(), "PNG", transparency=b"\xff\x80"), (255, 0, 0), (127, 191, 127)),
        (written(palette(), "GIF", transparency=0), (255, 255, 255), (0, 128, 0)),
        (written(Image.new("LA", (4, 4), (0, 128)), "PNG"), (127, 127, 127), (127, 127, 127)),
        (written(Image.new("1", (4, 4), 1), "PNG"), (255, 255, 255), (255, 255, 255)),
        (written(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "JPEG"), (0, 255, 255), (0, 255, 255)),
    ],
    ids=["palette", "palette with shares", "GIF", "grey with alpha", "one bit", "CMYK"],
)
def test_every_mode_shows_what_a_browser_shows(
    content: bytes, corner: object, rest: object
) -> None:
    image = decode(content)
    assert np.abs(np.array(image.getpixel((0, 0))) - corner).max() <= 2
    assert np.abs(np.array(image.getpixel((3, 3))) - rest).max() <= 2


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (6, 5), color) for color in ("red", "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        image = decode(written(frames[0], form, save_all=True, append_images=frames[1:]))
        assert image.getpixel((2, 2))[0] > 240, form  # type: ignore[index]


def test_a_picture_is_the_same_in_strips_and_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (37, 23, 4), np.uint8)
    for content in (
        written(Image.fromarray(noise), "PNG"),
        written(Image.fromarray(noise[..., 0]), "PNG"),
    ):
        whole = decode(content)
        monkeypatch.setattr(images, "STRIP_PIXELS", 50)
        assert decode(content).tobytes() == whole.tobytes()
        monkeypatch.undo()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_of_a_strip_only_the_crop_is_scaled(
    monkeypatch: pytest.MonkeyPatch, interpolation: Any
) -> None:
    across = np.linspace(0, 255, 3000)
    strip = np.stack(
        [np.tile(across, (60, 1)), np.tile(np.arange(60.0)[:, None] * 4, (1, 3000))] * 2, -1
    )[..., :3]
    image = Image.fromarray(strip.astype(np.uint8))
    wanted = Preprocessing(224, 256, "crop", interpolation)
    whole = pixels(image, wanted).astype(int)
    monkeypatch.setattr(images, "LARGE_PIXELS", 1000)
    assert abs(whole - pixels(image, wanted).astype(int)).max() <= 1
    monkeypatch.undo()
    tracemalloc.start()
    assert pixels(Image.new("RGB", (30_000, 1)), wanted).shape == (3, 224, 224)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_a_large_jpeg_is_unpacked_at_the_scale_that_is_needed() -> None:
    content = written(
        Image.effect_noise((1000, 750), 60).resize((4000, 3000)).convert("RGB"), "JPEG"
    )
    wanted = Preprocessing(224, 256, "crop")
    assert decode(content, least=256).size == (1000, 750)
    assert decode(content).size == (4000, 3000)
    difference = read_pixels(content, wanted).astype(int) - pixels(decode(content), wanted)
    assert abs(difference).mean() < 4


def test_a_strip_is_refused_where_it_comes_in() -> None:
    content = written(Image.new("1", (1001, 10)), "PNG")
    with pytest.raises(ImageError, match="one side at most 100 times the other"):
        check(content)
    assert decode(content).size == (1001, 10), "a kept one is read"
    assert check(written(Image.new("1", (1000, 10)), "PNG")) == 10_000


def test_whatever_is_damaged_is_an_image_error() -> None:
    rng = np.random.default_rng(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    source = Image.open(io.BytesIO(tiny_picture(4, (40, 30))))
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        content = written(source, form, **({} if form in ("GIF", "BMP") else {"exif": exif}))
        outcomes = [
            outcome(read, damage(content, rng)) for _ in range(150) for read in (decode, check)
        ]
        assert set(outcomes) <= {"read", "refused"}
        assert "refused" in outcomes


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a few bytes."""
    damaged = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 6)):
        damaged[place] = rng.integers(0, 256)
    return bytes(damaged)


def outcome(read: Callable[[bytes], object], content: bytes) -> str:
    """Say how reading ended: any error but an `ImageError` is named."""
    try:
        read(content)
    except ImageError:
        return "refused"
    except Exception as error:  # noqa: BLE001 - which one is what the test asks
        return repr(error)
    return "read"


@pytest.mark.parametrize("read", [decode, check])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "film.jpg: not a picture; JPEG, PNG"),
        (b"%PDF-1.4 ...", "film.jpg: not a picture"),
        (written(Image.new("RGB", (9, 7)), "TIFF"), "film.jpg: not a picture"),
        (tiny_picture(1, (64, 64))[:-2000], "film.jpg: damaged or truncated"),
        (
            written(Image.effect_noise((64, 64), 50), "JPEG")[:-600],
            "film.jpg: damaged or truncated",
        ),
        (b"x" * (images.MAX_BYTES + 1), "bytes, at most"),
    ],
    ids=["empty", "pdf", "tiff", "truncated_png", "truncated_jpeg", "too_large"],
)
def test_what_is_no_whole_picture_is_refused_by_name(
    read: Callable[[bytes, str], object], content: bytes, says: str
) -> None:
    with pytest.raises(ImageError, match=says):
        read(content, "film.jpg")


@pytest.mark.parametrize("size", [(20_000, 20_000), (40_000, 1)])
def test_a_small_file_of_many_pixels_is_refused_before_it_is_unpacked(
    size: tuple[int, int],
) -> None:
    with pytest.raises(ImageError, match="pixels"):
        decode(written(Image.new("1", size), "PNG"))


def test_equal_contents_have_equal_keys_and_others_have_not() -> None:
    one, same, other = (Picture.of(tiny_picture(number)) for number in (1, 1, 2))
    contents = [
        Content("a"),
        Content("a", one),
        Content("", one),
        Content("a", other),
        Content("b", one),
    ]
    assert len({content.key() for content in contents}) == 5
    assert Content("a", one) == Content("a", same)
    assert Content("a", one).key() == Content("a", same).key()
