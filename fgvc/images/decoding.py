"""The one decoder: file -> upright RGB uint8.

Shape letters: H, W the photograph.
"""

import stat
from pathlib import Path

from fgvc.images.apart import unpack_apart
from fgvc.images.formats import SUFFIXES as SUFFIXES
from fgvc.images.limits import MAX_BYTES as MAX_BYTES
from fgvc.images.limits import ImageError as ImageError
from fgvc.images.limits import Limits as Limits
from fgvc.images.unpacking import MENDED as MENDED
from fgvc.images.unpacking import TooMuchHere, unpack
from fgvc.images.value_range import Pixels as Pixels

USUAL = Limits()


def decode(
    source: str | Path | bytes, name: str | None = None, at_least: int | None = None, limits: Limits = USUAL
) -> Pixels:
    """Read a photograph as upright RGB.

    EXIF orientation is applied; grey, palette, CMYK and alpha pictures become RGB (transparent parts turn white); more
    than 8 bits become 8 by the rule of `fgvc.images.value_range`; of an animation the first frame is taken.

    Formats are JPEG, MPO, PNG, WebP, TIFF, BMP, GIF, AVIF, and HEIC where pillow-heif is installed; others by option.

    A picture takes at most 5 s of processor time and 1 GiB of memory under the default limits. A photograph as cameras
    write it is read here. Any other file is read in a process that the system ends at its limits.

    Args:
        source: a path, or the bytes of a file.
        name: what to call the source in an error.
        at_least: how many pixels of the shorter side are needed. A JPEG of 2, 4 or 8 times as many is read at 1/2, 1/4
            or 1/8 of its size, which is faster; every pixel is then the mean of those that it replaces.
        limits: how large a picture may be, and of which format.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: missing, no file, empty, too large, truncated, no picture, or one that takes too long.
    """
    return decode_with_warning(source, name, at_least, limits)[0]


def decode_with_warning(
    source: str | Path | bytes, name: str | None = None, at_least: int | None = None, limits: Limits = USUAL
) -> tuple[Pixels, str | None]:
    """Read a photograph as `decode` does, and say what is wrong with a file that can be read all the same.

    JPEG and PNG tell of damage: a JPEG by the complaints of libjpeg, a PNG by the checksums of its chunks. A tenth
    to a half of the damages of a JPEG give another valid stream, and the other formats have no checksums: there damage
    is an ImageError or is not noticed. Of more than 8 bits, it is told where the range of values had to be guessed.

    Args:
        source, name, at_least, limits: see `decode`.

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
        return unpack(data, label, at_least, limits, plain=True)
    except TooMuchHere:
        return unpack_apart(data, label, at_least, limits)
    except MemoryError:
        raise ImageError(f"{label}: there is too little memory to read it; close other programs") from None


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


def _too_heavy(label: str, size: int) -> str:
    return f"{label}: {size / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB: save it smaller"
