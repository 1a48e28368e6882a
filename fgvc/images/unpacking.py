"""The bytes of a picture -> upright RGB uint8, in this process.

Shape letters: H, W the photograph.
"""

import contextlib
import ctypes
import io
import logging
import re
import warnings

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from fgvc.images import jpeg_markers, png_chunks
from fgvc.images.formats import Format, check_format
from fgvc.images.limits import ImageError, Limits
from fgvc.images.value_range import Pixels, bands, from_deep, from_deep_colour, is_deep

END_OF_JPEG = b"\xff\xd9"
MENDED = "the end of the file is missing, no pixel is lost; copy or download it again"
WORK = 10**9  # scans times pixels of a JPEG: about a second
PLAIN_MEMORY = 2**29
"""Bytes, and pixels, up to which a picture is read in the process that wants it."""
PLAIN_PIXELS = 52_000_000
PLAIN_BYTES = {"WebP": 8 * 2**20, "GIF": 2**18, "BMP": 2**28, "JPEG": 2**26, "PNG": 2**26}
"""Bytes of a file up to which its decoder has too little to read to take long; no other decoder is known so well."""
NEEDED = {"JPEG": 6, "PNG": 8, "WebP": 17, "GIF": 8, "AVIF": 12, "HEIC": 10, "JPEG 2000": 20}
"""Bytes of memory per pixel that a decoder takes, by measurement (benchmarks/robustness/hostile_pictures.py)."""

# Warnings of Pillow are about metadata, and Python's warnings cannot be caught thread by thread: what is wrong with the
# pixels is told by `decode_with_warning`. They are silenced here, because worker processes import this file too.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(OSError, AttributeError):  # a Pillow without libtiff, or one that hides it
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)  # type: ignore[attr-defined]


class TooMuchHere(Exception):  # noqa: N818 - no error: the picture is read elsewhere
    """A picture is too large for this process; see `fgvc.images.apart`."""


def unpack(
    data: bytes, label: str, at_least: int | None, limits: Limits, plain: bool = False
) -> tuple[Pixels, str | None]:
    """Read a picture as `decode_with_warning` says.

    Args:
        data: the file.
        label: what to call it in an error.
        at_least, limits: see `decode`.
        plain: refuse by TooMuchHere what may take long or much memory.

    Raises:
        ImageError: it cannot be read.
        TooMuchHere: see `plain`.
        MemoryError: there is not enough.
    """
    found = check_format(data, label, limits)
    significant, scans, given = 0, 0, data
    if found.name == "PNG":
        data, significant, chunks = png_chunks.slim(data, label)
        plain_file = chunks <= png_chunks.FEW_CHUNKS
    elif found.name == "JPEG":
        scans = jpeg_markers.check_scans(data, label)
        plain_file = jpeg_markers.is_plain(data)
    else:
        plain_file = found.name != "BMP" or data[30:34] in (bytes(4), b"\3\0\0\0")  # else run lengths, in Python
    if plain and (not plain_file or len(data) > PLAIN_BYTES.get(found.name, 0)):
        raise TooMuchHere
    try:
        with Image.open(io.BytesIO(data), formats=found.pillow) as picture:
            _check_size(picture, found, scans, label, limits, plain)
            if found.name == "JPEG":
                return _jpeg(picture, data, at_least)
            pixels, warning = from_pillow(picture, significant)
            if found.name == "PNG" and (wrong := png_chunks.damage(given)) is not None:
                return pixels, _in_words(wrong) if wrong else MENDED
            if _is_deep_colour(picture, data) and int(pixels.max()) < 128:
                pixels, warning = from_deep_colour(data, pixels, significant)
            return pixels, warning
    except UnidentifiedImageError:
        raise ImageError(_unknown(found, data, label)) from None
    except Image.DecompressionBombError as error:
        told = re.search(r"\d+", str(error))
        size = int(told[0]) if told else limits.max_pixels
        if plain and size <= limits.max_pixels:  # Pillow's own limit is lower
            raise TooMuchHere from None
        raise ImageError(too_large(label, size, limits)) from None
    except (ImageError, TooMuchHere, MemoryError):
        raise
    except Exception as error:  # damaged bytes raise whatever Pillow's readers stumble over, struct.error among it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{label}: damaged picture ({reason}); copy or download it again") from None


def from_pillow(picture: Image.Image, significant: int = 0) -> tuple[Pixels, str | None]:
    """Return an open Pillow picture as `decode` would read its file: upright (H, W, 3) uint8 RGB, and a warning.

    Args:
        picture: of any mode.
        significant: see `from_deep`.
    """
    picture.load()  # first: a PNG may carry its EXIF behind the pixels, and a TIFF turns itself
    warning = None
    if is_deep(picture):
        pixels, warning = from_deep(picture, significant)
    else:
        pixels = np.empty((picture.height, picture.width, 3), np.uint8)
        for rows, band in bands(picture):
            pixels[rows] = np.asarray(_rgb(band))
    return turned(pixels, _orientation(picture)), warning


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("P", "RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layers = picture.convert("RGBA")
        if layers.getchannel("A").getextrema() == (255, 255):
            return layers.convert("RGB")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, 3) upright by the EXIF orientation, 1 to 8. OpenCV takes a tenth of Pillow's and numpy's time."""
    if orientation in (5, 7):
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    if orientation in (6, 8):
        clockwise = orientation == 6
        return np.asarray(
            cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE if clockwise else cv2.ROTATE_90_COUNTERCLOCKWISE), np.uint8
        )
    axis = {2: 1, 3: -1, 4: 0, 7: -1}.get(orientation)
    return pixels if axis is None else np.asarray(cv2.flip(pixels, axis), np.uint8)


def _jpeg(picture: Image.Image, data: bytes, at_least: int | None) -> tuple[Pixels, str | None]:
    part = 1 if at_least is None else _reduction(picture, at_least)
    complaint = None
    if picture.mode in ("RGB", "L"):
        try:
            return _fast_jpeg(picture, data, part), None
        except ValueError as error:  # damaged: Pillow decides what can be saved
            complaint = str(error)
        if complaint.startswith("Premature end of JPEG file") and not picture.info.get("progressive"):
            with contextlib.suppress(ValueError):
                return _fast_jpeg(picture, data + END_OF_JPEG, part), MENDED
    if part > 1:
        picture.draft(None, (picture.width // part, picture.height // part))
    pixels, _ = from_pillow(picture)
    if complaint:
        return pixels, _in_words(complaint)
    return pixels, _complaint_of_cmyk(data) if picture.mode == "CMYK" else None


def _reduction(picture: Image.Image, at_least: int) -> int:
    """Return by what a JPEG's sides may be divided so that `at_least` pixels of the shorter one are left."""
    room = min(picture.size) // max(1, at_least)
    return next((part for part in (8, 4, 2) if room >= part), 1)


def _fast_jpeg(picture: Image.Image, data: bytes, part: int) -> Pixels:
    """Decode with libjpeg-turbo itself: the same pixels as Pillow, 2 to 4 times as fast, while other threads run."""
    height, width = -(-picture.height // part), -(-picture.width // part)
    pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    return turned(pixels, _orientation(picture))


def _complaint_of_cmyk(data: bytes) -> str | None:
    try:
        simplejpeg.decode_jpeg(data, "CMYK", min_height=1, min_width=1)
    except ValueError as error:
        return _in_words(str(error)) if "Corrupt JPEG data" in str(error) else None
    return None


def _in_words(complaint: str) -> str:
    return f"damaged picture ({complaint}), parts of it may be wrong; copy or download it again"


def _unknown(found: Format, data: bytes, label: str) -> str:
    if found.name == "TIFF":
        return f"{label}: damaged, or a TIFF of a kind that is not read; copy it again, or save it as PNG or JPEG"
    return f"{label}: not a picture (it begins {data[:8]!r}); remove it or save it as JPEG"


def _check_size(picture: Image.Image, found: Format, scans: int, label: str, limits: Limits, plain: bool) -> None:
    """Refuse what would take too much memory or time, before any pixel is unpacked."""
    size = picture.width * picture.height
    if size > limits.max_pixels:
        raise ImageError(too_large(label, size, limits))
    needed = NEEDED.get(found.name, 8)
    if found.name == "JPEG":  # several scans keep two bytes for each sample of each channel
        needed = max(6, 3 + (2 * len(picture.getbands()) if scans > 1 else 0) + (picture.mode == "CMYK"))
    if size * needed > limits.memory:
        raise ImageError(
            f"{label}: {size / 1e6:.0f} million pixels as {found.name} take more than "
            f"{limits.memory / 2**30:g} GiB of memory; save it smaller or raise max_pixels"
        )
    if plain and (size > PLAIN_PIXELS or size * needed > PLAIN_MEMORY or scans * size > WORK):
        raise TooMuchHere


def too_large(label: str, size: int, limits: Limits) -> str:
    """Say that a picture has too many pixels."""
    limit = f"{limits.max_pixels / 1e6:.6g} million"
    return f"{label}: {size / 1e6:.0f} million pixels; the limit is {limit}: save it smaller or raise max_pixels"


def _is_deep_colour(picture: Image.Image, data: bytes) -> bool:
    """Whether a PNG or TIFF has colours of 16 bits, of which Pillow keeps the upper eight."""
    if picture.format == "PNG":
        return data[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")
    bits = getattr(picture, "tag_v2", {}).get(258, (8,))
    return isinstance(bits, tuple) and len(bits) > 1 and bits[0] == 16


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF says nothing about how the camera was held, the pixels are there all the same
        return 1
