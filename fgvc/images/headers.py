"""The size of a picture, read from the header of its file."""

import os
import stat
from typing import NamedTuple

from PIL import ExifTags, Image

from fgvc.images.formats import HEAD, check_format
from fgvc.images.limits import ImageError, Limits

LYING = (5, 6, 7, 8)
"""The orientations of EXIF that swap width and height."""

TURNED_BY_EXIF = ("JPEG", "MPO", "WEBP")
"""Formats whose EXIF is read. Pillow would decode a whole PNG for it, and turns a TIFF itself."""


class Header(NamedTuple):
    """Width and height of a picture, upright, in pixels, and the bytes of its file; or why they are not known."""

    width: int
    height: int
    size: int
    error: str = ""


def header(path: str) -> Header:
    """Read the size of one picture without decoding it."""
    try:
        status = os.stat(path)  # noqa: PTH116 - once per file, of many
        if not stat.S_ISREG(status.st_mode):  # to open a pipe may never end
            return Header(0, 0, 0, "not a file")
        with open(path, "rb") as file:  # noqa: PTH123 - once per file, of many
            found = check_format(file.read(HEAD), "picture", Limits(any_format=True))
        with Image.open(path, formats=found.pillow) as picture:
            width, height = picture.size
            exif = picture.getexif() if picture.format in TURNED_BY_EXIF else {}
        if exif.get(ExifTags.Base.Orientation) in LYING:
            width, height = height, width
        return Header(width, height, status.st_size)
    except ImageError as error:
        return Header(0, 0, 0, str(error).removeprefix("picture: "))
    except OSError as error:
        return Header(0, 0, 0, error.strerror or "not a picture")
    except Exception as error:  # damaged headers raise whatever Pillow's readers stumble over
        return Header(0, 0, 0, f"{type(error).__name__}: {error}")


def upright_size(path: str) -> tuple[int, int]:
    """Return width and height of a picture, upright, in pixels; raises ImageError where they cannot be read."""
    found = header(path)
    if found.error:
        raise ImageError(f"{path}: width and height cannot be read ({found.error})")
    return found.width, found.height
