"""Pictures: read safely, prepared as a checkpoint wants them, known by their content."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageFile

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 50_000_000
MAX_SIDE = 30_000
MAX_RATIO = 100
MAX_WEBP_PIXELS = 4096 * 4096
"""WebP is unpacked in one step that nothing can interrupt,
at a tenth of the speed of the others.
"""

LARGE_PIXELS = 8_000_000
"""Pictures of more pixels are unpacked one at a time:
each takes hundreds of megabytes meanwhile.
"""

STRIP_PIXELS = 1_000_000
ORIENTATION = 0x0112
_LARGE = threading.Lock()
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
        fit: `squash` scales both sides to `resize`, `crop` the shorter one; the centre S by S is
            taken then.
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


def check_pixels(width: int, height: int, name: str = "image", limit: int = MAX_PIXELS) -> None:
    """Refuse a picture of more than `limit` pixels, or with a side longer than `MAX_SIDE`.

    Raises:
        ImageError: it is.
    """
    if width * height > limit or max(width, height) > MAX_SIDE:
        raise ImageError(f"{name}: {width} x {height} pixels, at most {limit} are read")


def decode(content: bytes, name: str = "image", *, least: int | None = None) -> Image.Image:
    """Read a picture as RGB, upright; of an animation the first frame.

    The size is checked before anything is unpacked, so that a small file cannot ask for a large
    memory.

    Args:
        content: the file.
        name: what it is called in an error.
        least: the side that is needed. A JPEG of very many pixels is unpacked at a scale that
            leaves twice as much.

    Raises:
        ImageError: not a picture of `FORMATS`, truncated, or too large.
    """
    with _opened(content, name, MAX_PIXELS) as file:
        if least is not None and file.width * file.height > LARGE_PIXELS:
            file.draft(None, (2 * least, 2 * least))
        file.load()
        return _upright(_rgb(file), _orientation(file))


def check(content: bytes, name: str = "image", limit: int = MAX_PIXELS) -> int:
    """Read a picture to its end, at the smallest scale its format allows; return how many pixels it
    has.

    Raises:
        ImageError: as `decode`; or more than `limit` pixels, or a strip: far longer than it is
            wide.
    """
    with _opened(content, name, limit) as file:
        width, height = file.size
        if max(width, height) > MAX_RATIO * min(width, height):
            raise ImageError(
                f"{name}: {width} x {height} pixels, one side at most {MAX_RATIO} times the other"
            )
        file.draft("RGB", (32, 32))
        file.load()
        _orientation(file)
        return width * height


@contextmanager
def _opened(content: bytes, name: str, limit: int) -> Iterator[ImageFile.ImageFile]:
    """Open a picture whose size is within the limits; large ones one at a time.

    Raises:
        ImageError: as `decode`, also for what happens inside.
    """
    from PIL import Image, UnidentifiedImageError

    check_bytes(len(content), name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of damaged notes in it, and of its size: the limit below is ours
            file = Image.open(io.BytesIO(content), formats=FORMATS)
        check_pixels(
            *file.size, name, min(limit, MAX_WEBP_PIXELS) if file.format == "WEBP" else limit
        )
        with _LARGE if file.width * file.height > LARGE_PIXELS else nullcontext():
            yield file
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture; {', '.join(FORMATS)} are read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more than {limit} pixels") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
    ) as error:  # what the library's decoders raise
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}: damaged or truncated: {error}") from error


def pixels(image: Image.Image, wanted: Preprocessing) -> NDArray[np.uint8]:
    """Scale and crop a picture to uint8 [3, S, S]; the encoder normalises."""
    import numpy as np
    from PIL import Image

    scaled = _scaled(image, wanted)
    resampling = Image.Resampling[wanted.interpolation.upper()]
    left, top = (round((side - wanted.size) / 2) for side in scaled)
    shown = (left, top, left + wanted.size, top + wanted.size)
    if scaled[0] * scaled[1] > LARGE_PIXELS:
        # Of a strip the whole would be far larger than the picture: only what the crop shows is
        # scaled.
        across = image.width / scaled[0]
        down = image.height / scaled[1]
        box = (shown[0] * across, shown[1] * down, shown[2] * across, shown[3] * down)
        image = image.resize((wanted.size, wanted.size), resampling, box)
    else:
        image = image.resize(scaled, resampling)
        image = image.crop(shown) if (left, top) != (0, 0) else image
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def read_pixels(content: bytes, wanted: Preprocessing, name: str = "image") -> NDArray[np.uint8]:
    """Read, scale and crop a picture to uint8 [3, S, S].

    Raises:
        ImageError: as `decode`.
    """
    return pixels(decode(content, name, least=wanted.resize), wanted)


def _scaled(image: Image.Image, wanted: Preprocessing) -> tuple[int, int]:
    if wanted.fit == "squash":
        return wanted.resize, wanted.resize
    short = min(image.size)
    width, height = (
        wanted.resize if side == short else int(wanted.resize * side / short) for side in image.size
    )
    return width, height


def _rgb(file: Image.Image) -> Image.Image:
    """Return a picture as RGB; strip by strip,
    so that nothing but the result is as large as the picture.
    """
    from PIL import Image

    if file.mode == "RGB" and not _transparent(file):
        return file
    whole = Image.new("RGB", file.size)
    rows = max(1, STRIP_PIXELS // file.width)
    for top in range(0, file.height, rows):
        strip = file.crop((0, top, file.width, min(top + rows, file.height)))
        whole.paste(_strip(strip), (0, top))
    return whole


def _strip(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _from_sixteen_bits(image)
    return _on_white(image) if _transparent(image) else image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Scale grey values of 0 to 65535 to 0 to 255:
    to convert them would cut off what is over 255, white.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.int64).clip(0, 65_535)
    return Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8))


def _orientation(file: Image.Image) -> int | None:
    """Return how a camera says that a picture is to be turned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: int | None = file.getexif().get(ORIENTATION)
    return found


def _upright(image: Image.Image, orientation: int | None) -> Image.Image:
    """Turn a picture as a camera says that it is to be shown."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _on_white(image: Image.Image) -> Image.Image:
    """Lay what is transparent on white,
    as shops show their products; black would be what the file hides there.
    """
    from PIL import Image

    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")
