"""The picture formats: how their files begin, and who reads them."""

import re
from typing import NamedTuple

from PIL import Image, features

from fgvc.images.limits import ImageError, Limits

HEAD = 64
"""Bytes at the beginning of a file that tell its format."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif", ".ppm", ".pgm"}
)


class Format(NamedTuple):
    """A format.

    name: what people call it. pillow: what Pillow calls it. begins: how its files begin. usual: read by default.
    """

    name: str
    pillow: tuple[str, ...]
    begins: bytes
    usual: bool = True


# Pillow reads more, some by starting other programs.
FORMATS = (
    Format("JPEG", ("JPEG",), rb"\xff\xd8\xff"),
    Format("PNG", ("PNG",), rb"\x89PNG\r\n\x1a\n"),
    Format("WebP", ("WEBP",), rb"RIFF....WEBP"),
    Format("GIF", ("GIF",), rb"GIF8[79]a"),
    Format("TIFF", ("TIFF",), rb"II[*+]\0|MM\0[*+]"),
    Format("BMP", ("BMP",), rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    Format("AVIF", ("AVIF",), rb".{4}ftyp(?:avi[fs]|(?:mif1|msf1).{4}(?:.{4})*?avi[fs])"),
    Format("HEIC", ("HEIF",), rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)"),
    Format("PPM", ("PPM",), rb"P[1-6]\s+[\d#]", usual=False),
    Format("JPEG 2000", ("JPEG2000",), rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", usual=False),
    Format("QOI", ("QOI",), rb"qoif", usual=False),
    Format("DDS", ("DDS",), rb"DDS \x7c\0\0\0", usual=False),
    Format("SGI", ("SGI",), rb"\x01\xda[\0\x01][\x01\x02]", usual=False),
)
_BEGINS = [(re.compile(one.begins, re.DOTALL), one) for one in FORMATS]


def format_of(head: bytes) -> Format | None:
    """Return the format of a file by its first `HEAD` bytes; None for no picture."""
    return next((one for pattern, one in _BEGINS if pattern.match(head)), None)


def check_format(data: bytes, label: str, limits: Limits) -> Format:
    """Return the format of a file.

    Raises:
        ImageError: no picture, a format that is read by option only, or one whose reader is missing here.
    """
    found = format_of(data[:HEAD])
    if found is None:
        raise ImageError(f"{label}: not a picture (it begins {data[:8]!r}); remove it or save it as JPEG")
    if not found.usual and not limits.any_format:
        raise ImageError(f"{label}: {found.name} is read by option only; give any_format, or save it as PNG")
    if found.name == "HEIC":
        _register_heic(label)
    if found.name == "AVIF" and not features.check("avif"):
        raise ImageError(f"{label}: AVIF is read by Pillow 11.3 or later only; install it, or save it as JPEG")
    return found


def _register_heic(label: str) -> None:
    if "HEIF" in Image.OPEN:
        return
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            f'{label}: HEIC is read with pillow-heif only; pip install "fgvc[heic]", or save it as JPEG'
        ) from None
    pillow_heif.register_heif_opener(thumbnails=False)
