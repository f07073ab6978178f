"""Pictures: read safely, prepared as a checkpoint wants them, known by their content."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 50_000_000
MAX_SIDE = 30_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Fit = Literal["squash", "crop"]


class ImageError(ValueError):
    """A picture that cannot be read; says which, what was found and what is read."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes pixels [3, S, S].

    Attributes:
        size: side S of what the encoder sees.
        resize: to which side the picture is brought first.
        fit: `squash` scales both sides to `resize`, `crop` the shorter one; the centre S by S is taken then.
        interpolation: of the scaling.
        mean: subtracted from each channel, values 0 to 1.
        std: by which each channel is divided then.
    """

    size: int
    resize: int
    fit: Fit = "squash"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


def digest_of(content: bytes) -> str:
    """Return the name under which a picture is known: SHA-256 of its bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def check_bytes(count: int, name: str = "image") -> None:
    """Refuse a picture that takes more than `MAX_BYTES` where it is kept.

    Raises:
        ImageError: it does.
    """
    if count > MAX_BYTES:
        raise ImageError(f"{name}: {count} bytes, at most {MAX_BYTES} are read")


def check_pixels(width: int, height: int, name: str = "image") -> None:
    """Refuse a picture of more than `MAX_PIXELS`, or with a side longer than `MAX_SIDE`.

    Raises:
        ImageError: it is.
    """
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(f"{name}: {width} x {height} pixels, at most {MAX_PIXELS} are read")


def decode(content: bytes, name: str = "image", *, draft: bool = False) -> Image.Image:
    """Read a picture as RGB, upright; of an animation the first frame; as a draft in few pixels.

    The size is checked before anything is unpacked, so that a small file cannot ask for a large memory.

    Raises:
        ImageError: not a picture of `FORMATS`, truncated, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    check_bytes(len(content), name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is ours
            file = Image.open(io.BytesIO(content), formats=FORMATS)
        check_pixels(*file.size, name)
        if draft:
            file.draft("RGB", (32, 32))
        image = ImageOps.exif_transpose(file)
        return _on_white(image) if _transparent(image) else image.convert("RGB")
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture; {', '.join(FORMATS)} are read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more than {MAX_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what the library's decoders raise
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}: damaged or truncated: {error}") from error


def check(content: bytes, name: str = "image") -> None:
    """Read a picture to its end, at the smallest scale its format allows.

    Raises:
        ImageError: as `decode`.
    """
    decode(content, name, draft=True)


def pixels(image: Image.Image, wanted: Preprocessing) -> NDArray[np.uint8]:
    """Scale and crop a picture to uint8 [3, S, S]; the encoder normalises."""
    from PIL import Image

    image = image.resize(_scaled(image, wanted), Image.Resampling[wanted.interpolation.upper()])
    left, top = (round((side - wanted.size) / 2) for side in image.size)
    if (left, top) != (0, 0):
        image = image.crop((left, top, left + wanted.size, top + wanted.size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _scaled(image: Image.Image, wanted: Preprocessing) -> tuple[int, int]:
    if wanted.fit == "squash":
        return wanted.resize, wanted.resize
    short = min(image.size)
    width, height = (wanted.resize if side == short else int(wanted.resize * side / short) for side in image.size)
    return width, height


def _transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _on_white(image: Image.Image) -> Image.Image:
    """Lay what is transparent on white, as shops show their products; black would be what the file hides there."""
    from PIL import Image

    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")
