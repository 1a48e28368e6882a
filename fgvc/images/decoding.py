"""The one decoder: file -> upright RGB uint8.

Shape letters: H, W the photograph.
"""

import contextlib
import ctypes
import io
import logging
import re
import stat
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from fgvc.errors import FgvcError

Pixels = npt.NDArray[np.uint8]

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 175_000_000  # Pillow itself refuses 179 million
MAX_WORK = 20 * 10**9  # scans times pixels of a JPEG: 40 s, where a file of 1 MB may ask for hours
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # Pillow reads more, some by starting other programs
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that makes a picture upright."""
END_OF_JPEG = b"\xff\xd9"
MENDED = "the end of the file is missing, no pixel is lost; copy or download it again"

# Warnings of Pillow are about metadata, and Python's warnings cannot be caught thread by thread: what is wrong with the
# pixels is told by `decode_with_warning`. They are silenced here, because worker processes import this file too.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(OSError, AttributeError):  # a Pillow without libtiff, or one that hides it
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)  # type: ignore[attr-defined]


class ImageError(FgvcError):
    """A file that is not a photograph we can read; the message names the file and says what was found."""


def decode(source: str | Path | bytes, name: str | None = None, at_least: int | None = None) -> Pixels:
    """Read a photograph as upright RGB.

    EXIF orientation is applied; grey, palette, CMYK, 16-bit and alpha pictures become RGB (transparent parts turn
    white); of an animation the first frame is taken.

    Args:
        source: a path, or the bytes of a file.
        name: what to call the source in an error.
        at_least: how many pixels of the shorter side are needed. A JPEG of 2, 4 or 8 times as many is read at 1/2, 1/4
            or 1/8 of its size, which is faster; every pixel is then the mean of those that it replaces.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: missing, no file, empty, too large, truncated, or no picture.
    """
    return decode_with_warning(source, name, at_least)[0]


def decode_with_warning(
    source: str | Path | bytes, name: str | None = None, at_least: int | None = None
) -> tuple[Pixels, str | None]:
    """Read a photograph as `decode` does, and say what is wrong with a file that can be read all the same.

    JPEG and PNG tell of damage: a JPEG by the complaints of libjpeg, a PNG by the checksums of its chunks. A tenth
    to a half of the damages of a JPEG give another valid stream, and BMP, GIF, PPM, TIFF, WebP have no checksums: there
    damage is an ImageError or is not noticed.

    Args:
        source, name, at_least: see `decode`.

    Returns:
        (H, W, 3) uint8 RGB, and one line without the file's name; None where nothing is wrong.

    Raises:
        ImageError: see `decode`. A JPEG that lacks its end marker only is read, with a warning, unless it is
            progressive: there whole scans may be missing too.
    """
    label = name or ("<bytes>" if isinstance(source, bytes) else str(source))
    label = label if label.isprintable() else repr(label)
    data = source if isinstance(source, bytes) else _read(Path(source), label)
    if not data:
        raise ImageError(f"{label}: the file is empty; copy or download it again")
    if len(data) > MAX_BYTES:
        raise ImageError(_too_heavy(label, len(data)))
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(picture, data, label)
            part = 1 if at_least is None else _reduction(picture, at_least)
            complaint = None
            if picture.format in ("JPEG", "MPO") and picture.mode in ("RGB", "L"):
                try:
                    return _fast_jpeg(picture, data, part), None
                except ValueError as error:  # damaged: Pillow decides what can be saved
                    complaint = str(error)
                if complaint.startswith("Premature end of JPEG file") and not picture.info.get("progressive"):
                    with contextlib.suppress(ValueError):
                        return _fast_jpeg(picture, data + END_OF_JPEG, part), MENDED
            if part > 1:
                picture.draft(None, (picture.width // part, picture.height // part))
            pixels = from_pillow(picture)
            return pixels, _in_words(complaint) if complaint else _found_beside(picture, data)
    except UnidentifiedImageError:
        raise ImageError(f"{label}: not a picture (it begins {data[:8]!r}); remove it or save it as JPEG") from None
    except Image.DecompressionBombError as error:
        size = re.search(r"\d+", str(error))
        raise ImageError(_too_large(label, int(size[0]) if size else MAX_PIXELS)) from None
    except ImageError:
        raise
    except Exception as error:  # damaged bytes raise whatever Pillow's readers stumble over, struct.error among it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{label}: damaged picture ({reason}); copy or download it again") from None


def from_pillow(picture: Image.Image) -> Pixels:
    """Return an open Pillow picture as `decode` would read its file: upright (H, W, 3) uint8 RGB."""
    upright = _upright(picture)
    if upright.mode.startswith(("I", "F")):
        wide = np.nan_to_num(np.array(upright, dtype=np.float32), copy=False)
        if upright.mode.startswith("I;16") or wide.max() > 255:
            wide /= 257
        upright = Image.fromarray(wide.round(out=wide).clip(0, 255, out=wide).astype(np.uint8))
    if upright.mode in ("P", "RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        layers = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    if upright.mode != "RGB":
        upright = upright.convert("RGB")
    return np.array(upright, dtype=np.uint8)  # a copy: Pillow's own pixels are read-only


def _reduction(picture: Image.Image, at_least: int) -> int:
    """Return by what a JPEG's sides may be divided so that `at_least` pixels of the shorter one are left."""
    room = min(picture.size) // max(1, at_least)
    return next((part for part in (8, 4, 2) if room >= part), 1)


def _fast_jpeg(picture: Image.Image, data: bytes, part: int) -> Pixels:
    """Decode with libjpeg-turbo itself: the same pixels as Pillow, 2 to 4 times as fast, while other threads run."""
    height, width = -(-picture.height // part), -(-picture.width // part)
    pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    turn = _turn(picture)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def _found_beside(picture: Image.Image, data: bytes) -> str | None:
    """Say what is wrong with a file that Pillow has read without complaint."""
    if picture.format == "PNG":
        return _damage_of_png(data)
    if picture.format == "JPEG" and picture.mode == "CMYK":
        try:
            simplejpeg.decode_jpeg(data, "CMYK", min_height=1, min_width=1)
        except ValueError as error:
            return _in_words(str(error)) if "Corrupt JPEG data" in str(error) else None
    return None


def _damage_of_png(data: bytes) -> str | None:
    """Compare the checksum of each chunk: its length, its kind, its body and the CRC of kind and body."""
    view, start = memoryview(data), 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(view[start : start + 4], "big")
        kind = bytes(view[start + 4 : start + 8])
        if end + 4 > len(data):
            break
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return _in_words(f"the checksum of a chunk {kind.decode('ascii', 'backslashreplace')} is wrong")
        if kind == b"IEND":
            return None
        start = end + 4
    return MENDED


def _in_words(complaint: str) -> str:
    return f"damaged picture ({complaint}), parts of it may be wrong; copy or download it again"


def _read(path: Path, label: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{label}: a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise ImageError(f"{label}: a pipe, socket or device, not a file")
        if status.st_size > MAX_BYTES:
            raise ImageError(_too_heavy(label, status.st_size))
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{label}: cannot be read ({reason})") from None


def _check_size(picture: Image.Image, data: bytes, label: str) -> None:
    """Refuse what would take too much memory or time, before any pixel is unpacked."""
    size = picture.width * picture.height
    if size > MAX_PIXELS:
        raise ImageError(_too_large(label, size))
    if picture.format in ("JPEG", "MPO"):
        scans = len(re.findall(b"\xff\xda", data))
        if scans * size > MAX_WORK:
            raise ImageError(f"{label}: {scans} scans of {size / 1e6:.0f} million pixels take minutes; save it again")


def _too_heavy(label: str, size: int) -> str:
    return f"{label}: {size / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB: save it smaller"


def _too_large(label: str, size: int) -> str:
    return f"{label}: {size / 1e6:.0f} million pixels; the limit is {MAX_PIXELS // 10**6} million: save it smaller"


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()  # first: a PNG may carry its EXIF behind the pixels, and a TIFF turns itself
    turn = _turn(picture)
    return picture if turn is None else picture.transpose(turn)


def _turn(picture: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF says nothing about how the camera was held, the pixels are there all the same
        return None
