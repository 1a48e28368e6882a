"""The one decoder and the one evaluation resize: file -> upright RGB uint8 -> S x S.

Shape letters: H, W the photograph, S the side of the square handed to the model.
"""

import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fgvc.errors import FgvcError, UsageError

Pixels = npt.NDArray[np.uint8]

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 175_000_000  # Pillow itself refuses 179 million
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})


class ImageError(FgvcError):
    """A file that is not a photograph we can read; the message names the file and says what was found."""


def decode(source: str | Path | bytes, name: str | None = None) -> Pixels:
    """Read a photograph as it is meant to be seen.

    EXIF orientation is applied; grey, palette, CMYK, 16-bit and alpha pictures become RGB (transparent parts turn
    white); of an animation the first frame is taken.

    Args:
        source: a path, or the bytes of a file.
        name: what to call the bytes in an error.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: missing, empty, too large, truncated, or no picture.
    """
    label = name or ("<bytes>" if isinstance(source, bytes) else str(source))
    data = source if isinstance(source, bytes) else _read(Path(source))
    if not data:
        raise ImageError(f"{label}: the file is empty")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{label}: {len(data) / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{label}: {width} x {height} pixels; the limit is {MAX_PIXELS // 10**6} million")
            return _rgb(picture, data, label)
    except UnidentifiedImageError:
        raise ImageError(f"{label}: not a picture (it begins {data[:8]!r}); remove it or save it as JPEG") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{label}: too many pixels; the limit is {MAX_PIXELS // 10**6} million") from None
    except ImageError:
        raise
    except Exception as error:  # damaged bytes raise whatever Pillow's readers stumble over, struct.error among it
        raise ImageError(f"{label}: damaged picture ({error}); copy or download it again") from None


def _read(path: Path) -> bytes:
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ImageError(f"{path}: {path.stat().st_size / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be read ({reason})") from None


def _rgb(picture: Image.Image, data: bytes, label: str) -> Pixels:
    """Whole RGB and grey JPEG go through OpenCV (1.3 times as fast, the same pixels), everything else through Pillow.

    OpenCV 4.10 and 4.11 return a truncated JPEG as if it were whole (opencv#26488), so one without its end marker is
    left to Pillow, which refuses it where data are missing and reads it where only padding follows the marker.
    """
    if picture.format == "JPEG" and picture.mode in ("RGB", "L") and data.endswith(b"\xff\xd9"):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ImageError(f"{label}: damaged picture (no JPEG data that OpenCV can read); copy or download it again")
        return np.asarray(pixels, dtype=np.uint8)
    return from_pillow(picture)


def from_pillow(picture: Image.Image) -> Pixels:
    """Return an open Pillow picture as `decode` would read its file: upright (H, W, 3) uint8 RGB."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith(("I", "F")):
        wide = np.nan_to_num(np.asarray(upright, dtype=np.float64))
        scale = 255 / 65535 if upright.mode.startswith("I;16") or wide.max() > 255 else 1.0
        upright = Image.fromarray((wide * scale).round().clip(0, 255).astype(np.uint8))
    if upright.mode in ("P", "RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        layers = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return np.array(upright.convert("RGB"), dtype=np.uint8)  # a copy: Pillow's own pixels are read-only


class EvalResize(NamedTuple):
    """How a photograph becomes the square that the model sees when nothing is random.

    size: side of the square in pixels.
    fit: `crop` cuts a centred square, `squash` keeps the whole picture and changes its proportions.
    crop_fraction: side of the centred cut over the shorter side (`crop`) or over each side (`squash`), in (0, 1].
    """

    size: int
    fit: str = "crop"
    crop_fraction: float = 1.0

    def check(self) -> "EvalResize":
        """Return self, or raise UsageError for values outside their range."""
        if self.fit not in ("crop", "squash"):
            raise UsageError(f"fit: {self.fit!r}; it is 'crop' or 'squash'")
        if self.size < 1 or not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"eval resize: size {self.size} must be 1 or more, crop_fraction {self.crop_fraction} in (0, 1]"
            )
        return self


def resize_for_eval(image: Pixels, how: EvalResize) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Cut and resize once, averaging over areas when shrinking (OpenCV's other filters alias).

    Args:
        image: (H, W, 3) uint8.
        how: size and fit.

    Returns:
        (S, S, 3) uint8, and the view: (4,) float32 xyxy, the part shown as fractions of the photograph.
    """
    height, width = image.shape[:2]
    if how.fit == "crop":
        side = max(1, round(min(height, width) * how.crop_fraction))
        cut_h = cut_w = side
    else:
        cut_h, cut_w = (max(1, round(side * how.crop_fraction)) for side in (height, width))
    top, left = (height - cut_h) // 2, (width - cut_w) // 2
    pixels = resize(image[top : top + cut_h, left : left + cut_w], how.size, how.size)
    view = np.array([left / width, top / height, (left + cut_w) / width, (top + cut_h) / height], dtype=np.float32)
    return pixels, view


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Resize (H, W, 3) uint8: area averages when the area shrinks, bicubic when it grows."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] * image.shape[1] > height * width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)
